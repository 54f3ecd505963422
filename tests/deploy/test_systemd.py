"""The units of systemd, as `systemd-analyze` and its sisters see them, and what they set."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from hookmill.config.settings import Settings, variable_of
from tests.deploy.loading import settings_of
from tests.deploy.reading import DEPLOY
from worker.main import STOP_STEPS

UNITS = DEPLOY / "systemd"
SERVICES = sorted(path.name for path in UNITS.glob("*.service"))
PROGRAMS = ("hookmill-receiver@.service", "hookmill-worker@.service", "hookmill-console.service")
VARIABLES = {variable_of(name) for name in Settings.model_fields}

EXPOSED = 15
"""The most that `systemd-analyze security` may say, where 100 is a unit without any limits."""


def tool(name: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a program of systemd, or skip the test where it is missing or too old."""
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"{name} is not installed")
    said = subprocess.run([path, "--version"], capture_output=True, text=True, check=True).stdout
    if int(re.findall(r"\d+", said)[0]) < 250:
        pytest.skip(f"{name} is older than 250: it can check no file offline")
    environment = {**os.environ, "SYSTEMD_UNIT_PATH": f"{words[-1]}:"}
    return subprocess.run(
        [path, *words[:-1]], capture_output=True, text=True, check=False, env=environment
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The units as a machine has them that has the programs: one of each template."""
    for path in UNITS.glob("*.*"):
        text = path.read_text().replace("/opt/hookmill/bin/hookmill", "/bin/true")
        (tmp_path / path.name.replace("@.", "@1.")).write_text(text)
    return tmp_path


def values(unit: str, name: str) -> list[str]:
    return re.findall(rf"^{name}=(.*)$", (UNITS / unit).read_text(), re.MULTILINE)


def environment(unit: str) -> dict[str, str]:
    """The variables that a unit sets, for its first instance."""
    pairs = [pair for line in values(unit, "Environment") for pair in line.split()]
    return dict(pair.replace("%i", "1").split("=", 1) for pair in pairs)


@pytest.mark.external
def test_systemd_finds_nothing_wrong_with_the_units(folder: Path) -> None:
    paths = [str(path) for pattern in ("*.service", "*.timer") for path in folder.glob(pattern)]
    assert len(paths) == 7
    done = tool("systemd-analyze", "verify", "--man=no", *paths, str(folder))
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.external
@pytest.mark.parametrize("service", SERVICES)
def test_a_program_may_do_little_on_its_machine(service: str, folder: Path) -> None:
    path = folder / service.replace("@.", "@1.")
    words = ("security", "--offline=yes", f"--threshold={EXPOSED}", "--no-pager", str(path))
    done = tool("systemd-analyze", *words, str(folder))
    assert done.returncode == 0, done.stdout


@pytest.mark.external
@pytest.mark.skipif(os.getuid() != 0, reason="only root makes users and folders of others")
def test_systemd_makes_the_users_and_their_folders(tmp_path: Path) -> None:
    root, etc = str(tmp_path), tmp_path / "etc"
    etc.mkdir()
    made = tool("systemd-sysusers", f"--root={root}", str(UNITS / "hookmill.sysusers.conf"), root)
    assert made.returncode == 0, made.stderr
    rows = [row.split(":") for row in (etc / "passwd").read_text().splitlines()]
    users = {row[0]: int(row[3]) for row in rows}
    conf = str(UNITS / "hookmill.tmpfiles.conf")
    done = tool("systemd-tmpfiles", "--create", f"--root={root}", conf, root)
    assert done.returncode == 0, done.stderr
    for role in ("receiver", "worker", "console"):
        found = (etc / "hookmill" / role).stat()
        assert (found.st_uid, found.st_gid) == (0, users[f"hookmill-{role}"])
        assert found.st_mode & 0o777 == 0o750


def test_every_unit_has_the_same_sandbox() -> None:
    """A worker alone may compile code as it runs, because its handlers are yours."""
    sandboxes = {
        service: tuple(
            line
            for line in (UNITS / service)
            .read_text()
            .partition("# What the program may")[2]
            .splitlines()
            if "=" in line and not line.startswith(("#", "MemoryDenyWriteExecute=", "WantedBy="))
        )
        for service in SERVICES
    }
    assert len(set(sandboxes.values())) == 1
    without = [each for each in SERVICES if not values(each, "MemoryDenyWriteExecute")]
    assert without == ["hookmill-worker@.service"]


@pytest.mark.parametrize("service", PROGRAMS)
def test_a_unit_sets_only_variables_that_exist_and_waits_for_the_stop(service: str) -> None:
    given = environment(service)
    assert {name.removesuffix("_FILE") for name in given} <= VARIABLES
    (patience,) = map(int, values(service, "TimeoutStopSec"))
    assert patience >= int(given.get("HOOKMILL_SHUTDOWN", "25")) + 2 * STOP_STEPS
    role = re.findall(r"hookmill-(\w+)", service)[0]
    secrets = [path for name, path in given.items() if name.endswith("_FILE")]
    assert secrets
    assert all(path.startswith(f"/etc/hookmill/{role}/") for path in secrets)
    assert values(service, "User") == [f"hookmill-{role}"]


@pytest.mark.parametrize("service", PROGRAMS)
def test_a_program_can_read_the_settings_of_its_unit(
    service: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_of(environment(service), tmp_path, monkeypatch)
    assert settings.redis_url == "redis://user:pass@redis:6379/0"
    if "receiver" in service:
        assert (settings.host, settings.port, settings.admin_port) == ("127.0.0.1", 8081, 9001)
        assert 0 < settings.drain < settings.shutdown
        assert str(settings.spool) == "/var/lib/hookmill-receiver/spool"
        assert values(service, "StateDirectory") == ["hookmill-receiver"]


def test_no_two_programs_of_a_machine_have_the_same_port() -> None:
    ports = [
        value for unit in PROGRAMS for name, value in environment(unit).items() if "PORT" in name
    ]
    assert sorted(ports) == ["8081", "9001", "9011"]
    assert str(Settings.model_fields["console_port"].default) not in {f"808{n}" for n in range(10)}


@pytest.mark.parametrize("role", ["receiver", "worker"])
def test_the_health_of_a_program_is_asked_where_its_unit_answers(role: str) -> None:
    health = f"hookmill-{role}-health@.service"
    port = environment(f"hookmill-{role}@.service")["HOOKMILL_ADMIN_PORT"]
    assert environment(health) == {"HOOKMILL_ADMIN_PORT": port}
    assert f"hookmill health {role} " in values(health, "ExecStart")[0]
    assert f"try-restart hookmill-{role}@%i.service" in values(health, "ExecStopPost")[0]
    assert f"hookmill-{role}-health@%i.timer" in values(f"hookmill-{role}@.service", "Wants")[0]
    assert values(f"hookmill-{role}-health@.timer", "PartOf") == [f"hookmill-{role}@%i.service"]


def restarted(folder: Path, ready: str) -> subprocess.CompletedProcess[str]:
    """Run `rolling-restart 1 2` with a systemctl, a hookmill and a sleep that only say what was
    asked. `ready` is a command: whether a receiver is ready.
    """
    for name, script in (
        ("systemctl", 'echo "$@"'),
        ("hookmill", f'echo "ask $HOOKMILL_ADMIN_PORT"; {ready}'),
        ("sleep", ":"),
    ):
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)
    copy = folder / "rolling-restart"
    text = (UNITS / "rolling-restart").read_text()
    copy.write_text(text.replace("/opt/hookmill/bin", str(folder)))
    return subprocess.run(
        ["sh", copy, "1", "2"],
        env={"PATH": f"{folder}:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_receiver_is_restarted_when_the_one_before_is_ready(tmp_path: Path) -> None:
    done = restarted(tmp_path, "true")
    assert (done.returncode, done.stdout.splitlines()) == (
        0,
        ["restart hookmill-receiver@1.service", "ask 9001",
         "restart hookmill-receiver@2.service", "ask 9002"],
    )  # fmt: skip


def test_the_others_are_left_alone_if_a_receiver_is_not_ready(tmp_path: Path) -> None:
    done = restarted(tmp_path, "false")
    assert done.returncode == 1
    assert "receiver@2" not in done.stdout
    assert "journalctl -u hookmill-receiver@1" in done.stderr
