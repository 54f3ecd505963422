"""`hookmill health` answers in a line and an exit status, without loading what it does not need."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from tests.cli.running import faults, hookmill
from tests.ports import free_port
from tests.support import MARBLE_SECRET, Program, Server, wait_until

NOT_SET = (
    "HOOKMILL_ADMIN_PORT is not set, so the program answers nobody: set it for the program and "
    "for this command"
)


def test_a_receiver_is_asked_at_its_admin_address_or_else_at_its_own_port(
    own_server: Callable[..., Server], start_program: Callable[..., Program], tmp_path: Path
) -> None:
    ports = {"PORT": str(free_port()), "HOOKMILL_ADMIN_PORT": str(free_port())}
    env = {"REDIS_URL": own_server().url, "MARBLE_WEBHOOK_SECRET": MARBLE_SECRET, **ports}
    missing = hookmill("health", env=ports)
    assert (missing.returncode, missing.stdout) == (1, "")
    assert "nothing answers at 127.0.0.1" in missing.stderr
    receiver = start_program("receiver", env=env)
    wait_until(lambda: hookmill("health", "--ready", env=ports).returncode == 0)
    well = hookmill("health", "receiver", env=ports)
    assert (well.returncode, well.stdout, well.stderr) == (0, "receiver: ok\n", "")
    said = json.loads(hookmill("health", "receiver", "--ready", "--json", env=ports).stdout)
    assert said == {"ok": True, "program": "receiver", "status": 200, "code": "", "detail": "ready"}
    other = hookmill("health", "worker", env=ports)
    assert other.returncode == 1
    assert "a receiver answers there, and not a worker" in other.stderr
    public = {"PORT": ports["PORT"]}
    assert hookmill("health", "receiver", "--ready", env=public).stdout == "receiver: ready\n"
    (tmp_path / "hookmill.toml").write_text(f"admin_port = {ports['HOOKMILL_ADMIN_PORT']}\n")
    assert hookmill("health", folder=tmp_path).stdout == "receiver: ok\n"
    assert receiver.stop() == 0


def test_a_console_is_asked_at_its_own_port_though_its_handlers_cannot_be_imported(
    own_server: Callable[..., Server], start_program: Callable[..., Program], tmp_path: Path
) -> None:
    (tmp_path / "broken.py").write_text("raise KeyError('a secret of the module')\n")
    ports = {"HOOKMILL_CONSOLE_PORT": str(free_port())}
    words = ("console", "broken:handlers", "--anyway")
    console = start_program(*words, env={"REDIS_URL": own_server().url, **ports})
    console.wait_for("console open")
    assert "'broken:handlers' cannot be imported: KeyError" in console.log
    assert "a secret of the module" not in console.log
    well = hookmill("health", env=ports)  # as the image's health check asks
    assert (well.returncode, well.stdout, well.stderr) == (0, "console: ok\n", "")
    ready = hookmill("health", "console", "--ready", env={**ports, "HOOKMILL_ADMIN_PORT": "9"})
    assert (ready.returncode, ready.stdout) == (0, "console: ready\n")
    assert console.stop() == 0
    gone = hookmill("health", "console", env=ports)
    assert gone.returncode == 1
    assert "HOOKMILL_CONSOLE_PORT is another one there" in gone.stderr


def test_without_an_address_and_with_unknown_words_it_ends_with_2() -> None:
    asked = hookmill("health", env={"HOOKMILL_CONSOLE_PORT": str(free_port())})
    assert (asked.returncode, asked.stderr) == (2, faults(NOT_SET))
    env = {"HOOKMILL_ADMIN_PORT": "9"}
    assert hookmill("health", "--redy", env=env).returncode == 2
    assert hookmill("health", "receiver", "worker", env=env).returncode == 2
    assert hookmill("health", env={"HOOKMILL_ADMIN_PORT": "0"}).returncode == 2


def test_it_loads_neither_the_command_line_nor_the_settings() -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "hookmill", "health"],
        env={"HOOKMILL_ADMIN_PORT": "9"},
        capture_output=True,
        text=True,
        check=False,
    )
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "hookmill.admin.probe" in loaded
    assert not loaded & {"typer", "pydantic", "aiohttp", "redis", "msgspec", "asyncio"}
