"""A real worker that is wedged says so in clear words, and is healthy again when it is not."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections.abc import Iterator

import pytest

from hookmill.admin.status import describe, look
from hookmill.config.settings import Settings
from tests.ports import free_port
from tests.support import Clock, wait_until
from tests.worker.processes import WorkerProcesses
from tests.worker.test_probes import ask
from worker.consumption import Consumption, Fault
from worker.duties import Duties
from worker.health import WorkerHealth
from worker.loop_watch import LoopWatch
from worker.threads import HandlerThreads

WEDGED = """
import gc

def ours(name):
    # The program's own class: to import its module here would load it a second time.
    types = (one for one in gc.get_objects() if isinstance(one, type))
    return next(one for one in types if f"{one.__module__}.{one.__name__}" == name)

Pool = ours("worker.pool.Pool")
Pool._next_step.__globals__["MAX_WAIT"] = 0.2
Consumption = ours("worker.consumption.Consumption")
Consumption.__init__.__globals__["PATIENCE"] = 1.5
Consumption.__init__.__kwdefaults__["period"] = 0.3
ours("worker.health.WorkerHealth").__init__.__kwdefaults__["max_blocked"] = 2.5
takes = Pool._next_step

def until(name):
    while not os.path.exists(name):
        time.sleep(0.01)

async def hang(pool):
    while not os.path.exists("take"):
        await asyncio.sleep(0.01)
    return await takes(pool)

@handlers.on("block")
async def block(delivery):
    until("unblock")

@handlers.on("stick", timeout=0.1)
def stick(delivery):
    until("unstick")

@handlers.on("wedge")
async def wedge(delivery):
    Pool._next_step = hang
"""

HANGING = """
Takeover = ours("worker.takeover.Takeover")
ours("worker.duties.Duties").__init__.__kwdefaults__["patience"] = 2.0
asks = Takeover._asked_twice

async def hangs(takeover):
    while not os.path.exists("ask"):
        await asyncio.sleep(0.01)
    return await asks(takeover)

@handlers.on("hang")
async def hang_a_duty(delivery):
    Takeover._asked_twice = hangs
"""


def code_of(port: int, path: str = "/healthz") -> str:
    status, text = ask(port, path)
    return "ok" if status == 200 else json.loads(text)["error"] if status else "no answer"


def sick(processes: WorkerProcesses) -> list[str]:
    """What `hookmill status` says is wrong with workers."""
    seen = asyncio.run(look(Settings(redis_url=processes.server.url)))
    return [one["code"] for one in describe(seen, 60.0)["groups"][0]["sick_workers"]]


def test_a_wedged_worker_is_unhealthy_while_it_is_and_says_why(
    processes: WorkerProcesses,
) -> None:
    port = free_port()
    given = {"HOOKMILL_THREADS": "1", "HOOKMILL_STUCK_THREADS": "0"}
    worker = processes.start(WEDGED + HANGING, HOOKMILL_ADMIN_PORT=str(port), **given)
    wait_until(lambda: code_of(port, "/readyz") == "ok")

    processes.send("block")
    wait_until(lambda: code_of(port) == "loop_blocked")
    assert "by handler block (message m0-" in ask(port, "/healthz")[1]
    assert code_of(port, "/readyz") == "loop_blocked"
    assert ask(port, "/metrics")[0] == 200  # counted by another thread meanwhile
    (processes.folder / "unblock").touch()
    wait_until(lambda: code_of(port) == "ok")

    processes.send("stick")
    wait_until(lambda: code_of(port) == "threads_stuck")
    wait_until(lambda: sick(processes) == ["threads_stuck"])
    (processes.folder / "unstick").touch()
    wait_until(lambda: code_of(port) == "ok")

    processes.send("hang")
    wait_until(lambda: code_of(port) == "part_stands_still")
    wait_until(lambda: sick(processes) == ["part_stands_still"])
    assert "the part takeover of the worker has stood still for " in ask(port, "/healthz")[1]
    worker.wait_for("in hangs")  # the log shows where
    (processes.folder / "ask").touch()
    wait_until(lambda: code_of(port, "/readyz") == "ok")

    processes.send("wedge")
    wait_until(lambda: code_of(port) == "consumes_nothing")
    wait_until(lambda: sick(processes) == ["consumes_nothing"])
    assert "although it has free slots and Redis answers" in ask(port, "/healthz")[1]
    assert code_of(port, "/readyz") == "consumes_nothing"
    (processes.folder / "take").touch()
    wait_until(lambda: code_of(port, "/readyz") == "ok")
    assert worker.stop() == 0


def test_an_idle_worker_and_one_with_full_hands_are_healthy_and_one_without_redis_is_not_ready(
    processes: WorkerProcesses,
) -> None:
    port = free_port()
    worker = processes.start(
        WEDGED
        + """
@handlers.on("wait")
async def wait(delivery):
    say("waits")
    while not os.path.exists("go"):
        await asyncio.sleep(0.01)
""",
        HOOKMILL_ADMIN_PORT=str(port),
        HOOKMILL_CONCURRENCY="1",
        HOOKMILL_LEASE="600",
    )
    wait_until(lambda: code_of(port, "/readyz") == "ok")
    processes.server.signal(signal.SIGSTOP)
    wait_until(lambda: code_of(port, "/readyz") == "stream_unavailable")
    assert code_of(port) == "ok"
    processes.server.signal(signal.SIGCONT)
    wait_until(lambda: code_of(port, "/readyz") == "ok")
    processes.send("wait", "wait")
    worker.wait_for("waits")
    processes.server.kill()
    wait_until(lambda: code_of(port, "/readyz") == "stream_unavailable")
    assert code_of(port) == "ok"
    processes.server.start()
    (processes.folder / "go").touch()
    wait_until(lambda: code_of(port, "/readyz") == "ok")
    assert worker.stop() == 0
    assert '"the worker is unhealthy"' not in worker.log


# --- the judgement ----------------------------------------------------------------------------


@pytest.fixture
def threads() -> Iterator[HandlerThreads]:
    made = HandlerThreads(1)
    yield made
    made.close()


class Calm(Consumption):
    """One that has found nothing, or what a test says."""

    def __init__(self) -> None:
        self.fault: Fault | None = None


async def test_the_first_cause_is_named(threads: HandlerThreads) -> None:
    calm, parts = Calm(), [""]
    watch = LoopWatch(list)
    duties = Duties()
    health = WorkerHealth(calm, threads, watch, duties, lambda: parts[0])
    watch.start()
    assert health.fault is None
    duties.fault = Fault("part_stands_still", "it hangs")
    assert health.fault == health.lasting_fault == duties.fault
    calm.fault = Fault("consumes_nothing", "it does nothing")
    assert health.fault == calm.fault
    parts[0] = "janitor"
    assert health.fault == Fault(
        "part_ended", "the part janitor of the worker has ended by itself: restart it"
    )
    watch.stop()


def test_a_loop_that_stood_still_with_its_process_is_not_blocked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = Clock()
    monkeypatch.setattr(time, "monotonic", clock)
    watch = LoopWatch(list)
    watch._last_beat = watch._looked = watch._runs_since = clock.now
    clock.now += 100
    assert watch.blocked_for == 0  # nor has the thread that watches run
    watch._looked = watch._runs_since = clock.now
    clock.now += 1
    watch._looked = clock.now
    assert watch.blocked_for == 0
    clock.now += 4
    watch._looked = clock.now
    assert watch.blocked_for == 5
