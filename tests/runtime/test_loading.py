"""Our programs and a user's modules of the same names work in one process."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from hookmill.errors import HandlersError, NotInstalledError
from hookmill.runtime.loading import load_handlers, load_program
from hookmill.stream.groups import Groups
from hookmill.stream.producer import Producer
from tests.support import Program, Server, message

HANDLERS = """
from hookmill import Handlers

handlers = Handlers()

@handlers.on("*")
async def the_users_own(delivery):
    pass
"""


class Layout(NamedTuple):
    """A user's folder, and how the worker is started in it."""

    target: str
    files: dict[str, str]
    env: dict[str, str] = {}  # noqa: RUF012 - no test changes it
    script: bool = False


LAYOUTS = {
    "modules": Layout(
        "worker:handlers",
        {
            "worker.py": f"import receiver\nassert receiver.mine\n{HANDLERS}",
            "receiver.py": "mine = True",
            "typer.py": "1 / 0",
        },
    ),
    "the-other-name": Layout("receiver:handlers", {"receiver.py": HANDLERS}),
    "package": Layout(
        "worker.app:handlers",
        {
            "worker/__init__.py": "mine = True",
            "worker/app.py": f"from worker import mine, app\n{HANDLERS}",
        },
        env={"PYTHONPATH": "."},
    ),
    "folder-without-init": Layout(
        "worker.app:handlers",
        {"worker/app.py": f"from worker import parts\n{HANDLERS}", "worker/parts.py": ""},
    ),
    "elsewhere-on-the-path": Layout(
        "worker:handlers", {"src/worker.py": HANDLERS}, env={"PYTHONPATH": "src"}
    ),
    "script": Layout("worker:handlers", {"worker.py": HANDLERS}, script=True),
    "safe-path": Layout(
        "app:handlers",
        {"app.py": f"import helper\n{HANDLERS}", "lib/helper.py": "", "worker.py": "1 / 0"},
        env={"PYTHONSAFEPATH": "1", "PYTHONPATH": "lib"},
    ),
}


def write(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


class Script(Program):
    """The installed command, as an operator types it."""

    def __init__(self, folder: Path, *command: str, env: dict[str, str]) -> None:
        self.log_path = folder / "script.log"
        script = shutil.which("hookmill", path=str(Path(sys.executable).parent))
        assert script is not None, "hookmill is not installed here"
        with self.log_path.open("wb") as log:
            self._process = subprocess.Popen(
                [script, *command],
                env={"PATH": os.environ["PATH"], "HOOKMILL_LOG_FORMAT": "json", **env},
                cwd=folder,
                stdout=log,
                stderr=subprocess.STDOUT,
            )


async def test_a_users_own_modules_keep_working_whatever_their_names(
    server: Server, prefix: str, stream: Producer, tmp_path: Path
) -> None:
    """All at once, each layout a consumer group of its own: the programs take a while to start."""
    programs: dict[str, Program] = {}
    try:
        for name, layout in LAYOUTS.items():
            await Groups(stream.client).add(name, "beginning")
            folder = write(tmp_path / name, layout.files)
            env = {
                "REDIS_URL": server.url,
                "HOOKMILL_PREFIX": prefix,
                "HOOKMILL_GROUP": name,
                "HOOKMILL_RETENTION": "600",  # the last group finds what the first has finished
                **layout.env,
            }
            kind = Script if layout.script else Program
            programs[name] = kind(folder, "worker", layout.target, env=env)
        await stream.append([message(id="msg_1")])
        for program in programs.values():
            program.wait_for('"handler":"the_users_own"')
        # Our modules are not in `sys.modules` any more; the workers still end as they should.
        for program in programs.values():
            program.signal(signal.SIGTERM)
        for program in programs.values():
            assert program.wait() == 0
            assert '"event":"stopped"' in program.log
    finally:
        for program in programs.values():
            program.kill()


@pytest.fixture
def restored_imports() -> Iterator[None]:
    """Restore `sys.modules` and `sys.path` at the end of the test."""
    modules, path = dict(sys.modules), list(sys.path)
    yield
    sys.modules.clear()
    sys.modules.update(modules)
    sys.path[:] = path


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("", "'': name the handlers as MODULE:ATTRIBUTE, app.main:handlers"),
        ("app", "'app': name the handlers as MODULE:ATTRIBUTE"),
        ("app:", "'app:': name the handlers as MODULE:ATTRIBUTE"),
        (":handlers", "':handlers': name the handlers as MODULE:ATTRIBUTE"),
        ("app:a:b", "'app:a:b': name the handlers as MODULE:ATTRIBUTE"),
        (".app:handlers", "'.app:handlers': name the handlers as MODULE:ATTRIBUTE"),
        ("./app.py:handlers", "'./app.py:handlers': name the handlers as MODULE:ATTRIBUTE"),
        ("app/main:handlers", "'app/main:handlers': name the handlers as MODULE:ATTRIBUTE"),
        ("missing:handlers", "'missing:handlers': there is no module 'missing' in FOLDER"),
        ("app.main:handlers", "'app.main:handlers': there is no module 'app.main' in FOLDER"),
        ("app.py:handlers", "'app.py:handlers': there is no module 'app.py' in FOLDER"),
        ("worker.missing:h", "'worker.missing:h': there is no module 'worker.missing' in FOLDER"),
        ("app:missing", "'app:missing': 'app' has no 'missing'"),
        ("app:number", "'app:number': 'number' is of type int, not a hookmill.Handlers"),
        ("app:nothing", "'app:nothing': 'nothing' is of type NoneType, not a hookmill.Handlers"),
        ("app:Handlers", "'app:Handlers': 'Handlers' is of type type, not a hookmill.Handlers"),
        ("app:empty", "'app:empty': it has no handlers; register some with handlers.on(...)"),
        ("app:faulty", "handler 'two' takes a second parameter, but there is no lifespan"),
    ],
)
def test_a_target_that_holds_no_handlers_is_refused_with_what_is_wrong(
    restored_imports: None, tmp_path: Path, target: str, said: str
) -> None:
    app = """
from hookmill import Handlers
number, nothing, empty, faulty = 5, None, Handlers(), Handlers()
@faulty.on("*")
async def two(delivery, database): ...
"""
    write(tmp_path, {"app.py": app, "worker.py": ""})

    with pytest.raises(HandlersError) as caught:
        load_handlers(target, tmp_path)

    assert str(caught.value).startswith(said.replace("FOLDER", str(tmp_path)))


@pytest.mark.parametrize(
    ("files", "cause"),
    [
        ({"app.py": "import a_library_that_is_missing"}, "a_library_that_is_missing"),
        ({"app.py": "from hookmill import Handler"}, "cannot import name 'Handler'"),
        ({"app.py": "import parts", "parts.py": "import app_parts"}, "app_parts"),
        ({"app.py": "1 / 0"}, "division by zero"),
    ],
)
def test_an_error_inside_the_users_module_passes_as_it_is(
    restored_imports: None, tmp_path: Path, files: dict[str, str], cause: str
) -> None:
    write(tmp_path, files)

    with pytest.raises((ImportError, ZeroDivisionError), match=cause) as caught:
        load_handlers("app:handlers", tmp_path)

    assert not isinstance(caught.value, HandlersError)


def test_a_users_error_is_shown_with_its_traceback_and_ours_without(tmp_path: Path) -> None:
    write(tmp_path, {"app.py": "import a_library_that_is_missing"})

    theirs = hookmill_worker(tmp_path, "app:handlers")
    ours = hookmill_worker(tmp_path, "missing:handlers")

    assert theirs.returncode == 1
    assert 'app.py", line 1, in <module>' in theirs.stderr
    assert "No module named 'a_library_that_is_missing'" in theirs.stderr
    assert ours.returncode == 2
    assert ours.stderr == (
        f"hookmill: 'missing:handlers': there is no module 'missing' in {tmp_path}\n"
    )


def test_modules_are_left_alone_where_the_user_has_none_of_that_name(
    restored_imports: None, tmp_path: Path
) -> None:
    run = load_program("worker")
    ours = sys.modules["worker.main"]
    write(tmp_path, {"app.py": HANDLERS})

    load_handlers("app:handlers", tmp_path)

    assert sys.modules["worker.main"] is ours
    assert run is ours.run


def test_a_program_is_loaded_from_where_it_is_installed_and_leaves_the_path_as_it_was(
    restored_imports: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, {"worker.py": "1 / 0", "receiver.py": "1 / 0"})
    monkeypatch.syspath_prepend(tmp_path)
    for name in [m for m in sys.modules if m.partition(".")[0] in {"worker", "receiver"}]:
        del sys.modules[name]
    path = list(sys.path)

    for program in ("worker", "receiver"):
        assert callable(load_program(program))

    assert sys.path == path


def test_a_program_that_is_not_installed_is_named() -> None:
    with pytest.raises(NotInstalledError, match="the program 'gardener' is not installed"):
        load_program("gardener")


def hookmill_worker(folder: Path, target: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "hookmill", "worker", target],
        env={"PATH": os.environ["PATH"], "REDIS_URL": "redis://127.0.0.1:1"},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
