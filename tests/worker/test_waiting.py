"""A message that waits for a thread goes to a worker that has a free one."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from hookmill import Delivery, Handlers
from hookmill.handlers import Handler
from hookmill.message import Message, Progress
from hookmill.stream.facts import Heartbeat
from hookmill.stream.heartbeats import Heartbeats
from hookmill.stream.producer import Producer
from tests.support import Clock, eventually, wait_until
from tests.worker.processes import WorkerProcesses
from worker import waiting as waiting_module
from worker.threads import HandlerThreads
from worker.waiting import WaitingMover

# --- which are moved ------------------------------------------------------------------------

LEASE = 60.0


def plain(name: str = "work") -> Handler:
    handlers: Handlers[Any] = Handlers()

    @handlers.on("*", name=name)
    def work(delivery: Delivery[Message]) -> None:
        pass

    (handler,) = handlers
    return handler


class Waiting:
    """Messages that wait for a thread, and the mover that moves them."""

    def __init__(self, heartbeats: Heartbeats) -> None:
        self.heartbeats = heartbeats
        self.threads = HandlerThreads(1)
        self.clock = Clock()
        self.clock.now = time.time()
        self.rests: list[float] = []
        self.mover = WaitingMover(
            self.threads, heartbeats, self.rest, "mine", LEASE, clock=self.clock
        )
        self.tasks: list[asyncio.Task[Progress | None]] = []

    async def rest(self, seconds: float) -> None:
        self.rests.append(seconds)

    async def put(self, *progresses: Progress, handler: Handler | None = None) -> None:
        handler = handler or plain()
        self.tasks += [
            asyncio.create_task(self.threads.wait_for_turn(handler, one)) for one in progresses
        ]
        await eventually(lambda: len(self.threads.waiting()) == len(self.tasks) - 1)

    async def beat(self, name: str, free_slots: int, free_threads: int, *handlers: str) -> None:
        known: dict[str, tuple[str, ...]] = dict.fromkeys(handlers or ("work",), ("*",))
        await self.heartbeats.write(
            Heartbeat(
                name=name,
                lease=LEASE,
                handlers=known,
                free_slots=free_slots,
                free_threads=free_threads,
            )
        )

    async def moved(self) -> list[int]:
        """Let the mover run once; return the places of the messages that it requeued."""
        await self.mover.run_once()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return [n for n, task in enumerate(self.tasks) if task.done() and task.result() is not None]


@pytest.fixture
async def waiting(stream: Producer, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Waiting]:
    """Messages of which the first one has the only thread."""
    monkeypatch.setattr(waiting_module, "PERIOD", 0.0)
    found = Waiting(Heartbeats(stream.client, "main"))
    await found.put(Progress(owner="1-0"))
    yield found
    for task in found.tasks:
        task.cancel()
    found.threads.close()


async def test_as_many_are_requeued_as_others_have_free_threads_and_slots(waiting: Waiting) -> None:
    await waiting.put(*(Progress(owner=f"2-{n}") for n in range(6)))
    await waiting.beat("mine", 9, 9)
    await waiting.beat("without slots", 0, 9)
    await waiting.beat("without threads", 9, 0)
    assert await waiting.moved() == []
    assert not waiting.rests
    await waiting.beat("other", 9, 1)
    await waiting.beat("third", 2, 9)
    assert await waiting.moved() == [1, 2, 3]
    assert waiting.rests == [waiting_module.REST]


async def test_a_worker_without_the_handler_is_not_meant(waiting: Waiting) -> None:
    await waiting.put(Progress(owner="2-0"))
    await waiting.put(Progress(owner="3-0"), handler=plain("mail"))
    await waiting.beat("other", 9, 9, "mail", "sms")
    assert await waiting.moved() == [2]


async def test_a_message_is_moved_once_a_lease_and_no_attempt_is_counted(waiting: Waiting) -> None:
    await waiting.beat("other", 9, 9)
    await waiting.put(Progress(owner="2-0", attempts=3))
    assert await waiting.moved() == [1]
    progress = waiting.tasks[1].result()
    assert progress is not None
    assert (progress.owner, progress.attempts) == ("2-0", 3)
    again = Progress.from_fields(progress.to_fields(), "5-0")
    assert again == progress
    waiting.tasks.pop()
    await waiting.put(again)
    await asyncio.sleep(2 * waiting_module.TAKEN_AFTER)
    await waiting.beat("other", 9, 9)
    waiting.clock.now += LEASE - 1
    assert await waiting.moved() == []
    waiting.clock.now += 2
    assert await waiting.moved() == [1]


async def test_after_a_move_only_what_others_said_since_then_counts(waiting: Waiting) -> None:
    await waiting.beat("other", 9, 1)
    await waiting.put(Progress(owner="2-0"), Progress(owner="3-0"))
    assert await waiting.moved() == [1]
    await asyncio.sleep(2 * waiting_module.TAKEN_AFTER)
    assert await waiting.moved() == [1]  # the heartbeat is older than the move
    await waiting.beat("other", 9, 1)
    assert await waiting.moved() == [1, 2]


async def test_what_gets_its_thread_while_others_are_asked_is_not_moved(waiting: Waiting) -> None:
    await waiting.beat("other", 9, 9)
    await waiting.put(Progress(owner="2-0"))

    async def rest(_: float) -> None:
        waiting.threads.end_turn()

    waiting.mover._rest = rest
    assert await waiting.moved() == []
    assert waiting.tasks[1].result() is None


# --- turns ----------------------------------------------------------------------------------


async def test_a_cancelled_message_leaves_its_thread_to_the_next(waiting: Waiting) -> None:
    await waiting.put(Progress(owner="2-0"), Progress(owner="3-0"))
    _, second, third = waiting.tasks
    waiting.threads.end_turn()
    second.cancel()  # in the moment in which it gets its turn
    await eventually(third.done)
    assert third.result() is None
    assert second.cancelled()


async def test_a_message_that_comes_while_another_is_about_to_begin_has_the_free_thread(
    waiting: Waiting,
) -> None:
    threads = HandlerThreads(2)
    first, second, third, fourth = (
        asyncio.create_task(threads.wait_for_turn(plain(), Progress(owner=f"{n}-0")))
        for n in range(4)
    )
    await eventually(lambda: len(threads.waiting()) == 2)
    assert first.done()
    assert second.done()
    third.cancel()
    await eventually(third.done)
    threads.end_turn()  # for the fourth, which has not noticed it yet
    threads.end_turn()
    assert await threads.wait_for_turn(plain(), Progress(owner="5-0")) is None
    assert await fourth is None
    assert threads.free == 0
    threads.close()


async def test_a_thread_that_nobody_waits_for_is_not_free(waiting: Waiting) -> None:
    waiting.threads.end_turn()
    began, go_on = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def work() -> None:
        loop.call_soon_threadsafe(began.set)
        asyncio.run_coroutine_threadsafe(go_on.wait(), loop).result(30)

    assert await waiting.threads.wait_for_turn(plain(), Progress(owner="2-0")) is None
    running = asyncio.create_task(waiting.threads.run(plain(), "m", work))
    await began.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    waiting.threads.end_turn()
    assert (waiting.threads.usable, waiting.threads.free) == (0, 0)
    next_one = asyncio.create_task(
        waiting.threads.wait_for_turn(plain(), Progress(owner="3-0")),
    )
    await eventually(waiting.threads.waiting)
    go_on.set()
    assert await next_one is None
    assert waiting.threads.usable == 1


# --- real processes -------------------------------------------------------------------------

PLAIN = """
def write(text):
    ledger = os.open("ledger", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(ledger, f"{text}\\n".encode())

@handlers.on("stick", timeout=600)
def stick(delivery):
    write("stuck")
    time.sleep(600)

@handlers.on("quick")
def quick(delivery):
    write(f"quick {delivery.id} {delivery.attempt}")
"""

MIXED = f"""{PLAIN}
@handlers.on("async")
async def on_the_loop(delivery):
    write("async")
"""


def ledger(processes: WorkerProcesses) -> list[str]:
    path = processes.folder / "ledger"
    return path.read_text().splitlines() if path.exists() else []


def test_a_worker_of_plain_functions_takes_no_more_than_it_has_free_threads(
    processes: WorkerProcesses,
) -> None:
    """python-arq/arq#395: four stuck threads held 16 more messages beside an idle worker."""
    first = processes.start(PLAIN, HOOKMILL_THREADS="4", HOOKMILL_LEASE="3600")
    first.wait_for("working")
    processes.send(*["stick"] * 4, *["quick"] * 16)
    wait_until(lambda: len(ledger(processes)) == 4)
    assert processes.pending == 4
    processes.start(PLAIN, HOOKMILL_THREADS="4", HOOKMILL_LEASE="3600")
    wait_until(lambda: len(ledger(processes)) == 20)
    wait_until(lambda: processes.is_drained(but=4))


def test_what_waits_for_a_thread_goes_to_an_idle_worker_and_runs_once(
    processes: WorkerProcesses,
) -> None:
    """python-arq/arq#395, with both kinds of handlers: what needs a thread is not known before."""
    limits = {"HOOKMILL_THREADS": "4", "HOOKMILL_LEASE": "6"}
    first = processes.start(MIXED, **limits)
    first.wait_for("working")
    processes.send(*["stick"] * 4, *["quick"] * 4, "async")
    wait_until(lambda: "async" in ledger(processes))
    wait_until(lambda: processes.pending == 8)
    processes.start(MIXED, **limits)
    wait_until(lambda: len(ledger(processes)) == 9)
    wait_until(lambda: processes.is_drained(but=4))
    ran = [line for line in ledger(processes) if line.startswith("quick")]
    assert len(set(ran)) == len(ran) == 4
    assert all(line.endswith(" 1") for line in ran)
    assert first.log.count("all threads are busy") >= 4
    assert "took over" not in first.log


def test_all_that_waits_goes_to_an_idle_worker_soon(processes: WorkerProcesses) -> None:
    """It has fewer threads than messages wait, and its heartbeats are far apart by themselves."""
    limits = {"HOOKMILL_THREADS": "2", "HOOKMILL_LEASE": "30"}
    first = processes.start(MIXED, **limits)
    first.wait_for("working")
    processes.send("stick", "stick", *["quick"] * 12, "async")
    wait_until(lambda: "async" in ledger(processes))
    wait_until(lambda: processes.pending == 14)
    idle = processes.start(MIXED, **limits)
    idle.wait_for("working")
    began = time.monotonic()
    wait_until(lambda: len(ledger(processes)) == 15)
    assert time.monotonic() - began < 40  # by heartbeats every ten seconds it takes 60
    wait_until(lambda: processes.is_drained(but=2))


def test_a_stop_requeues_at_once_what_waits_for_a_thread(processes: WorkerProcesses) -> None:
    worker = processes.start(
        MIXED, HOOKMILL_THREADS="1", HOOKMILL_SHUTDOWN="20", HOOKMILL_LEASE="3600"
    )
    worker.wait_for("working")
    processes.send("stick", "quick", "async")
    wait_until(lambda: "async" in ledger(processes))
    began = time.monotonic()
    worker.signal(signal.SIGTERM)
    wait_until(lambda: processes.requeued == 1)
    assert time.monotonic() - began < 10
    worker.kill()
