"""The operator's drill: whatever is broken, what an operator asks names fault and remedy."""

from __future__ import annotations

import asyncio
import re
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis
from pydantic import SecretStr

from hookmill.admin import checkup
from hookmill.admin.findings import Finding
from hookmill.admin.probe import Probed, probe
from hookmill.admin.status import look
from hookmill.config.settings import Settings
from hookmill.stream.facts import GroupFacts
from hookmill.stream.server_inspector import ServerInspector
from tests.ports import free_port
from tests.receiver.test_spool_full_disk import fill, small_disk
from tests.support import MARBLE_SECRET, Program, wait_until
from tests.worker.processes import WorkerProcesses
from tests.worker.test_probes import ask

__all__ = ["small_disk"]

HANDLERS = """
from hookmill import Retry

@handlers.on("poison", attempts=1)
async def poison(delivery):
    raise ValueError("no such customer")

@handlers.on("throttled")
async def throttled(delivery):
    raise Retry(after=600, reason="429 from the shop")
"""


class Site:
    """A receiver and a worker on a server of their own, with admin addresses."""

    def __init__(self, processes: WorkerProcesses, start: Callable[..., Program]) -> None:
        self.processes, self._start = processes, start
        self.server = processes.server
        self.client = redis.Redis.from_url(self.server.url)
        self.run("ACL", "SETUSER", "app", "on", ">secret", "~*", "&*", "+@all")
        self.url = self.server.url.replace("redis://", "redis://app:secret@")
        self.receiver_port, self.worker_port = free_port(), free_port()

    def receiver(self, **env: str) -> Program:
        given = {
            "REDIS_URL": self.url,
            "PORT": str(free_port()),
            "HOOKMILL_ADMIN_PORT": str(self.receiver_port),
            "MARBLE_WEBHOOK_SECRET": MARBLE_SECRET,
        }
        return self._start("receiver", env=given | env)

    def worker(self) -> Program:
        env = {"REDIS_URL": self.url, "HOOKMILL_ADMIN_PORT": str(self.worker_port)}
        return self.processes.start(HANDLERS, **env)

    def settings(self) -> Settings:
        return Settings(redis_url=self.url, marble_webhook_secret=SecretStr(MARBLE_SECRET))

    def findings(self) -> dict[str, Finding]:
        """What `hookmill check` finds, by what was found."""
        return {found.what: found for found in asyncio.run(checkup.check(self.settings()))}

    def run(self, *command: str) -> None:
        self.client.execute_command(*command)  # type: ignore[no-untyped-call]  # as redis-py has it

    def remedy(self, what: str) -> str:
        """The remedy of the one finding whose text begins so."""
        (found,) = (one for text, one in self.findings().items() if text.startswith(what))
        return found.do

    def group(self) -> GroupFacts:
        (found,) = asyncio.run(look(self.settings())).groups
        return found

    def metric(self, port: int, name: str) -> str:
        """The value that the alert rules see, of a metric without labels or of its only series."""
        found = re.search(rf"^{name}(?:{{[^}}]*}})? (\S+)$", ask(port, "/metrics")[1], re.MULTILINE)
        return "" if found is None else found[1]

    def ready(self, port: int) -> Probed:
        return probe("127.0.0.1", port, ready=True)

    def wait_until_ready(self) -> None:
        for port in (self.receiver_port, self.worker_port):
            wait_until(lambda port=port: self.ready(port).ok)  # type: ignore[misc]


@pytest.fixture
def site(processes: WorkerProcesses, start_program: Callable[..., Program]) -> Iterator[Site]:
    made = Site(processes, start_program)
    yield made
    made.client.close()


def test_whatever_is_broken_is_named_with_its_remedy(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    receiver, worker = site.receiver(), site.worker()
    site.wait_until_ready()

    # A poison message, and a downstream that answers 429.
    site.processes.send("poison", "throttled")
    worker.wait_for('"dead letter"')
    worker.wait_for('"429 from the shop"')
    wait_until(lambda: site.group().dead == site.group().delayed == 1)
    assert "hookmill dead list --group main" in site.remedy("1 dead letter lies in group main")

    # Redis at its limit of memory: receivers refuse, workers go on.
    site.client.config_set("maxmemory", "1mb")
    wait_until(lambda: not site.ready(site.receiver_port).ok)
    assert "maxmemory" in site.ready(site.receiver_port).detail
    assert site.ready(site.worker_port).ok
    assert "raise maxmemory" in site.remedy("the server refuses writes")
    site.client.config_set("maxmemory", "0")
    site.wait_until_ready()

    # A wrong clock on this machine.
    real = time.time
    with monkeypatch.context() as patched:
        patched.setattr(ServerInspector.__init__, "__defaults__", (lambda: real() + 3600,))
        assert "clock" in site.remedy("this machine's clock is 3600")

    # Redis stands still, and then refuses the login: nobody is unhealthy for that.
    site.server.signal(signal.SIGSTOP)
    for port in (site.receiver_port, site.worker_port):
        wait_until(lambda port=port: site.ready(port).code == "stream_unavailable")  # type: ignore[misc]
    site.server.signal(signal.SIGCONT)
    site.wait_until_ready()
    site.run("ACL", "SETUSER", "app", "resetpass", ">another")
    site.run("CLIENT", "KILL", "USER", "app")
    for port in (site.receiver_port, site.worker_port):
        wait_until(lambda port=port: "refuses the login" in site.ready(port).detail)  # type: ignore[misc]
        assert probe("127.0.0.1", port).ok
    wait_until(lambda: site.metric(site.receiver_port, "hookmill_redis_up") == "0.0")
    assert site.metric(site.worker_port, "hookmill_worker_healthy") == "1.0"
    assert "the user may use it" in site.remedy("Redis cannot be used")
    assert "the worker is unhealthy" not in worker.log
    receiver.kill()
    worker.kill()


def test_a_typo_in_the_name_of_the_handlers_or_of_one_is_refused_by_name(
    processes: WorkerProcesses, start_program: Callable[..., Program]
) -> None:
    started = processes.start(HANDLERS)  # it writes app.py
    started.kill()
    env = {"REDIS_URL": processes.server.url, "HOOKMILL_HANDLERS": "app:handelrs"}
    worker = start_program("worker", env=env)
    assert worker.wait() == 2
    assert "handelrs" in worker.log
    assert "Traceback" not in worker.log
    pausing = start_program("pause", "--handler", "poisn", env=env)
    assert pausing.wait() != 0
    assert "poisn" in pausing.log


def test_a_full_disk_of_the_spool_is_named_by_readyz(site: Site, small_disk: Path) -> None:
    receiver = site.receiver(HOOKMILL_SPOOL=str(small_disk / "spool.db"))
    wait_until(lambda: site.ready(site.receiver_port).ok)
    fill(small_disk)
    site.server.kill()
    wait_until(lambda: "disk" in site.ready(site.receiver_port).detail)
    assert not site.ready(site.receiver_port).ok
    assert receiver.stop() == 0
