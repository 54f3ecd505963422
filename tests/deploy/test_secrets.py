"""`deploy/make-secrets`, and the Redis of the compose file with what it makes."""

from __future__ import annotations

import shlex
import shutil
import stat
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from tests.conftest import BINARIES
from tests.deploy.reading import DEPLOY, compose
from tests.ports import free_port
from tests.support import MARBLE_SECRET, Program, wait_until


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of `deploy/`, in which the secrets were made."""
    copied = tmp_path / "deploy"
    shutil.copytree(DEPLOY, copied, ignore=shutil.ignore_patterns("secrets"))
    subprocess.run([copied / "make-secrets"], check=True)
    return copied


class Redis:
    """The server of the compose file, with its own command."""

    def __init__(self, folder: Path, data: Path, binary: str) -> None:
        self.port = free_port()
        self.folder = folder
        _, *options = shlex.split(compose()["services"]["redis"]["command"])
        place = {"/run/secrets/redis_users": str(folder / "secrets" / "redis_users")}
        options = [place.get(option, option) for option in options]
        own = ["--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(data)]
        self.process = subprocess.Popen([binary, *own, *options], stdout=subprocess.DEVNULL)

    def url(self, role: str) -> str:
        """The URL that the program of a role has, with the port of this machine."""
        text = (self.folder / "secrets" / f"redis_url_{role}").read_text().strip()
        assert text.endswith("@redis:6379/0")
        return text.replace("@redis:6379", f"@127.0.0.1:{self.port}")

    def is_healthy(self) -> bool:
        try:
            with redis.Redis(port=self.port, username="health", password="any") as client:
                return bool(client.ping())
        except redis.ConnectionError:
            return False


@pytest.fixture
def server(folder: Path, tmp_path: Path) -> Iterator[Redis]:
    data = tmp_path / "data"
    data.mkdir()
    running = Redis(folder, data, BINARIES["valkey"])
    try:
        wait_until(running.is_healthy, what="the server's health check")
        yield running
    finally:
        running.process.kill()
        running.process.wait()


def test_each_file_that_the_compose_file_names_is_made_or_is_a_senders(folder: Path) -> None:
    made = {path.name for path in (folder / "secrets").iterdir()}
    senders = {"marble_webhook_secret", "qstash_current_signing_key", "qstash_next_signing_key"}
    assert made == set(compose()["secrets"]) - senders | set(
        compose("compose.metrics.yaml")["secrets"]
    )
    assert made.isdisjoint(senders)


def test_only_the_owner_enters_the_folder_and_the_programs_can_read_the_files(
    folder: Path,
) -> None:
    assert stat.S_IMODE((folder / "secrets").stat().st_mode) == 0o700
    modes = {stat.S_IMODE(path.stat().st_mode) for path in (folder / "secrets").iterdir()}
    assert modes == {0o644}


def test_passwords_differ_and_the_server_learns_only_their_hashes(folder: Path) -> None:
    secrets = folder / "secrets"
    passwords = {
        path.read_text().rpartition("@")[0].rpartition(":")[2]
        for path in secrets.glob("redis_url_*")
    }
    assert {len(password) for password in passwords} == {64}
    assert len(passwords) == 3
    assert not any(password in (secrets / "redis_users").read_text() for password in passwords)


def test_the_address_of_redis_and_the_file_of_users_can_be_others(tmp_path: Path) -> None:
    copied = tmp_path / "deploy"
    shutil.copytree(DEPLOY, copied, ignore=shutil.ignore_patterns("secrets"))
    words = [str(copied / "make-secrets"), "127.0.0.1:6379", "redis/users-before-7.2.acl"]
    subprocess.run(words, check=True)
    assert (copied / "secrets" / "redis_url_worker").read_text().endswith("@127.0.0.1:6379/0\n")
    users = (copied / "secrets" / "redis_users").read_text()
    assert "setinfo" not in users  # 7.0 does not know it
    assert users.count("\nuser hookmill-") == 3


def test_secrets_that_are_there_are_never_replaced(folder: Path) -> None:
    before = (folder / "secrets" / "redis_users").read_text()
    again = subprocess.run([folder / "make-secrets"], capture_output=True, text=True, check=False)
    assert again.returncode == 1
    assert "has users of Redis already" in again.stderr
    assert (folder / "secrets" / "redis_users").read_text() == before


def test_the_programs_work_with_their_users_and_nobody_else_gets_in(
    server: Redis, start_program: Callable[..., Program], tmp_path: Path
) -> None:
    script = "from hookmill import Handlers\nhandlers = Handlers()\n"
    script += "@handlers.on('*')\nasync def any(delivery): print('ran', delivery.id, flush=True)\n"
    (tmp_path / "handlers.py").write_text(script)
    port = free_port()
    receiver = start_program(
        "receiver",
        env={"REDIS_URL": server.url("receiver"), "PORT": str(port), "HOOKMILL_HOST": "127.0.0.1",
             "MARBLE_WEBHOOK_SECRET": MARBLE_SECRET},
    )  # fmt: skip
    worker = start_program("worker", "handlers:handlers", env={"REDIS_URL": server.url("worker")})
    receiver.wait_for('"receiving"')
    worker.wait_for('"working"')
    sent = start_program(
        "send", "--source", "marble", "--url", f"http://127.0.0.1:{port}/marble",
        env={"MARBLE_WEBHOOK_SECRET": MARBLE_SECRET},
    )  # fmt: skip
    assert sent.wait() == 0, sent.log
    worker.wait_for("ran ")
    status = start_program("status", env={"REDIS_URL": server.url("operator")})
    assert status.wait() == 0, status.log
    assert (receiver.stop(), worker.stop()) == (0, 0)
    assert "NOPERM" not in receiver.log + worker.log

    with redis.Redis(port=server.port) as stranger, pytest.raises(redis.AuthenticationError):
        stranger.ping()
    with redis.Redis(port=server.port, username="health", password="any") as health:
        for command in ("INFO", "KEYS *", "GET hookmill:x", "ACL LIST", "SUBSCRIBE x"):
            with pytest.raises(redis.exceptions.NoPermissionError):
                health.execute_command(*command.split())
