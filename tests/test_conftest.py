"""What the suite needs from a machine, and the checks that no test leaves anything behind.

Both are tested from outside: pytest runs in another process, and these tests read its report.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

ROOT = Path(__file__).parent.parent
TESTS = ROOT / "tests"

BASIC_TOOLS = (
    *("git", "make", "sh", "bash", "awk", "sed", "grep", "find", "xargs", "tar", "gzip", "diff"),
    *("cat", "cp", "mv", "rm", "ln", "ls", "mkdir", "rmdir", "chmod", "touch", "mktemp", "pwd"),
    *("echo", "printf", "true", "false", "test", "env", "date", "sleep", "uname", "id", "nice"),
    *("head", "tail", "sort", "uniq", "cut", "tr", "wc", "tee", "expand", "expr", "seq", "cmp"),
    *("basename", "dirname", "readlink", "realpath", "which"),
)

Report = dict[str, tuple[str, str]]
"""The result of each test by its name: "passed", "failed", "error" or "skipped", and the reason."""


def run_pytest(folder: Path, *arguments: str, path: str = os.environ["PATH"]) -> Report:
    """Run tests in another process, which has `folder` for its files. Return its report."""
    written = folder / "report.xml"
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"),
            *(f"--config-file={ROOT / 'pyproject.toml'}", f"--basetemp={folder / 'basetemp'}"),
            *(f"--junitxml={written}", *arguments),
        ],
        cwd=ROOT,
        env={"PATH": path, "HOME": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert written.exists(), done.stdout + done.stderr
    found = {}
    for case in ET.parse(written).iter("testcase"):
        what = next((part for part in case if part.tag in {"failure", "error", "skipped"}), None)
        outcome = "passed" if what is None else what.tag.replace("failure", "failed")
        why = "" if what is None else f"{what.get('message')}\n{what.text}"
        found[str(case.get("name"))] = (outcome, why)
    return found


# --- a machine without the programs that some tests need ------------------------------------


@pytest.fixture
def bare_path(tmp_path: Path) -> str:
    """A PATH with Python, git, make and the system's basic tools, and nothing else."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in BASIC_TOOLS:
        if found := shutil.which(name):
            (folder / name).symlink_to(found)
    (folder / "python3").symlink_to(Path(sys.executable).resolve())
    return str(folder)


DEPENDS_ON_THE_MACHINE = {
    "no Python here can be run by any user",
    "unshare is not installed, or this user may not mount",
}


@pytest.mark.timeout(300)  # it imports the whole suite, on a machine that may be busy
def test_a_test_of_a_program_that_is_missing_is_skipped_and_names_it(
    tmp_path: Path, bare_path: str
) -> None:
    report = run_pytest(tmp_path, "-m", "external", str(TESTS), path=bare_path)

    assert {name: why for name, why in report.items() if why[0] in {"failed", "error"}} == {}
    reasons = {why for outcome, why in report.values() if outcome == "skipped"}
    reasons = {why.partition(": ")[2] if ".py:" in why else why for why in reasons}
    assert reasons - DEPENDS_ON_THE_MACHINE == {
        "chromium is not installed",
        "docker compose is not installed",
        "haproxy is not installed",
        "helm is not installed",
        "redis-server is not installed",
        "node is not installed",
        "node and npm are not installed",
        "npm is not installed",
        "promtool is not installed",
        "systemd-analyze is not installed",
        "systemd-sysusers is not installed",
        "ip and unshare are not installed",
    }


def test_each_test_that_looks_for_a_program_is_marked_as_external() -> None:
    looks = re.compile(r"""which\(["']\w+["']\)|node_with\(|["']redis["'][^\n]*marks=""")
    helpers = {"support.py", "node.py", "image.py", "test_conftest.py", "balancer.py", "chart.py"}
    files = [path for path in TESTS.rglob("*.py") if path.name not in helpers]
    looking = [path for path in files if looks.search(path.read_text())]

    assert len(looking) >= 6
    assert [path.name for path in looking if "mark.external" not in path.read_text()] == []


def test_make_finds_what_it_needs_on_a_bare_path(bare_path: str) -> None:
    def make(*arguments: str) -> str:
        command = [str(Path(bare_path) / "make"), *arguments]
        done = subprocess.run(
            command, cwd=ROOT, env={"PATH": bare_path}, capture_output=True, text=True, check=True
        )
        assert not done.stderr
        return done.stdout

    assert re.search(r"^test +Format, lint, types", make("help"), re.MULTILINE)
    assert "-m pytest" in make("--dry-run", "test")


# --- what a test leaves behind --------------------------------------------------------------

LEAKING = """
import asyncio
import subprocess
import sys
import threading
import time
from typing import NamedTuple

SLEEP = "import time; time.sleep(60)"
ORPHAN = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {SLEEP!r}])"
kept = []


def test_a_thread():
    kept.append(threading.Event())
    threading.Thread(target=kept[-1].wait, name="leaked-thread", daemon=True).start()


def test_a_process():
    kept.append(subprocess.Popen([sys.executable, "-c", SLEEP]))


def test_an_orphan():
    subprocess.run([sys.executable, "-c", ORPHAN], check=True)


async def test_a_task():
    kept.append(asyncio.create_task(asyncio.sleep(60), name="leaked-task"))


async def test_a_task_of_a_fixture_that_is_cleaned_up_later(open_group):
    kept.append(asyncio.create_task(asyncio.sleep(60), name="leaked-task"))


async def test_a_pending_entry(stream, open_group):
    from tests.support import message
    group = await open_group()
    await stream.append([message()])
    await group.take(1)


def test_a_delayed_message(redis_client, prefix):
    redis_client.zadd(f"{prefix}:{{0}}:main:delayed", {"1-0": 1})


def test_a_dead_letter(redis_client, prefix):
    redis_client.xadd(f"{prefix}:{{0}}:main:dead", {"id": "m"})


def test_an_ordering_key_in_use(redis_client, prefix):
    redis_client.hset(f"{prefix}:{{0}}:main:busy", "k", "1")


def test_a_parked_message(redis_client, prefix):
    redis_client.rpush(f"{prefix}:{{0}}:main:parked:k", "1")


def test_an_owner_that_never_expires(redis_client, prefix):
    redis_client.hset(f"{prefix}:{{0}}:main:owners", "m", "1")


def test_a_key_under_another_prefix(redis_client, prefix):
    redis_client.set("elsewhere", "1")


def test_nothing(redis_client, prefix):
    redis_client.set(f"{prefix}:other", "1")
"""

FOUND = {
    "a_thread": "threads left running: ['leaked-thread']",
    "a_process": "time.sleep(60)",
    "an_orphan": "time.sleep(60)",
    "a_task": "tasks left running",
    "a_task_of_a_fixture_that_is_cleaned_up_later": "tasks left running",
    "a_pending_entry": "has 1 pending in b'main'",
    "a_delayed_message": "has delayed messages",
    "a_dead_letter": "has dead letters",
    "an_ordering_key_in_use": "has ordering keys in use",
    "a_parked_message": "has parked or paused messages",
    "an_owner_that_never_expires": "never expires",
    "a_key_under_another_prefix": "outside of the test's prefix",
}
"""What the checks say about each test above that leaves something behind."""


def test_anything_that_a_test_leaves_behind_is_found(tmp_path: Path, bare_path: str) -> None:
    leaking = tmp_path / "test_leaking.py"
    leaking.write_text(LEAKING)

    # With the bare PATH, the tests run only on the embedded server, which is enough here.
    report = run_pytest(tmp_path, "-p", "tests.conftest", str(leaking), path=bare_path)
    found = {name.removeprefix("test_").partition("[")[0]: why for name, why in report.items()}

    assert found.pop("nothing") == ("passed", "")
    assert {name: outcome for name, (outcome, _) in found.items()} == dict.fromkeys(FOUND, "error")
    assert {name: why for name, (_, why) in found.items() if FOUND[name] not in why} == {}
