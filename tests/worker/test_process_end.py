"""A worker as a real process: whatever ends or hangs in it, it works on, or ends in order."""

from __future__ import annotations

import time

import pytest
import redis

from tests.support import wait_until
from tests.worker.processes import WorkerProcesses

# --- no half-dead worker --------------------------------------------------------------------

PARTS = ["pool", "settler", "settler watch", "watch", "main"]

BACKGROUND_TASKS = [
    "delayed",
    "heartbeat",
    "janitor",
    "leases",
    "leases thread",
    "takeover",
    "unstarted",
    "waiting",
    "stuck threads",
    "loop watch",
    "loop watch thread",
]


@pytest.mark.parametrize("part", PARTS)
def test_a_worker_that_loses_a_part_of_itself_ends_and_requeues_its_work(
    processes: WorkerProcesses, part: str
) -> None:
    lose(processes, part)


@pytest.mark.parametrize("task", BACKGROUND_TASKS)
def test_a_worker_that_loses_a_background_task_ends_and_requeues_its_work(
    processes: WorkerProcesses, task: str
) -> None:
    lose(processes, task)


def lose(processes: WorkerProcesses, part: str) -> None:
    """Start a worker, have a handler cancel a part of it, and see it end in order."""
    worker = processes.start(
        """
        def the_part():
            name = os.environ["PART"]
            return [task for task in asyncio.all_tasks() if task.get_name() == name]

        @handlers.on("slow")
        async def slow(delivery):
            say("slow began")
            await asyncio.sleep(600)

        @handlers.on("kill")
        async def kill(delivery):
            while not (found := the_part()):
                await asyncio.sleep(0)
            found[0].cancel()
            say("killed")

        @handlers.on("quick")
        async def quick(delivery):
            pass
        """,
        PART=part,
        HOOKMILL_SHUTDOWN="0.5",
        HOOKMILL_LEASE="3600",
    )
    processes.send("slow", "slow")
    wait_until(lambda: worker.log.count("slow began") == 2)
    processes.send("kill")
    if part == "settler":  # its task is there while something is written
        processes.send("quick")
    worker.wait_for("killed")
    assert worker.wait() == 1
    assert "a part of the worker had ended by itself" in worker.log
    assert processes.pending == 0
    assert processes.requeued >= 2  # what was taken while it stopped is requeued, too


@pytest.mark.parametrize("thread", ["leases", "loop watch"])
def test_a_worker_that_loses_a_thread_of_its_own_ends_and_requeues_its_work(
    processes: WorkerProcesses, thread: str
) -> None:
    worker = processes.start(
        """
        import ctypes, threading

        @handlers.on("slow")
        async def slow(delivery):
            say("slow began")
            await asyncio.sleep(600)

        @handlers.on("kill")
        async def kill(delivery):
            (one,) = (one for one in threading.enumerate() if one.name == os.environ["THREAD"])
            ctypes.pythonapi.PyThreadState_SetAsyncExc(
                ctypes.c_ulong(one.ident), ctypes.py_object(SystemExit)
            )
        """,
        THREAD=thread,
        HOOKMILL_SHUTDOWN="0.5",
        HOOKMILL_LEASE="1.5",  # the thread sleeps for a third of it, and cannot be ended meanwhile
    )
    processes.send("slow", "slow")
    wait_until(lambda: worker.log.count("slow began") == 2)
    processes.send("kill")
    assert worker.wait() == 1
    assert f"{thread} thread" in worker.log
    assert processes.pending == 0
    assert processes.requeued == 2


def test_a_handler_that_cancels_every_task_ends_a_worker_that_requeues_its_work(
    processes: WorkerProcesses,
) -> None:
    worker = processes.start(
        """
        @handlers.on("slow")
        async def slow(delivery):
            say("slow began")
            await asyncio.sleep(600)

        @handlers.on("kill")
        async def kill(delivery):
            for task in asyncio.all_tasks():
                task.cancel()
        """,
        HOOKMILL_SHUTDOWN="0.5",
        HOOKMILL_LEASE="3600",
    )
    processes.send("slow")
    worker.wait_for("slow began")
    processes.send("kill")
    assert worker.wait() == 1
    assert processes.pending == 0
    with redis.Redis.from_url(processes.server.url) as client:
        assert client.zcard("hookmill:{0}:main:delayed") == 1  # it has failed


def test_handlers_that_raise_generator_exit_keep_no_slot(processes: WorkerProcesses) -> None:
    """dask/distributed#5958: a handler that raises GeneratorExit takes its slot with it."""
    worker = processes.start(
        """
        @handlers.on("bad", attempts=1)
        async def bad(delivery):
            raise GeneratorExit

        @handlers.on("good")
        async def good(delivery):
            say("good")
        """,
        HOOKMILL_CONCURRENCY="2",
    )
    processes.send("bad", "bad", "good")
    worker.wait_for("good")
    wait_until(processes.is_drained)
    assert worker.log.count("dead letter") == 2
    assert worker.stop() == 0


def test_sys_exit_in_a_task_of_a_handler_ends_a_worker_that_has_settled_everything(
    processes: WorkerProcesses,
) -> None:
    """kuyruk#66: a worker that exits within a task requeues nothing."""
    worker = processes.start(
        """
        async def leave():
            sys.exit(3)

        @handlers.on("slow")
        async def slow(delivery):
            say("slow began")
            await asyncio.sleep(600)

        @handlers.on("leave", attempts=1)
        async def fail(delivery):
            await asyncio.create_task(leave())
        """,
        HOOKMILL_SHUTDOWN="0.5",
        HOOKMILL_LEASE="3600",
    )
    processes.send("slow")
    worker.wait_for("slow began")
    processes.send("leave")
    assert worker.wait() == 3
    assert processes.pending == 0
    assert processes.requeued == 1
    with redis.Redis.from_url(processes.server.url) as client:
        assert client.xlen("hookmill:{0}:main:dead") == 1


def test_a_message_whose_task_was_cancelled_before_it_began_runs_all_the_same(
    processes: WorkerProcesses,
) -> None:
    worker = processes.start("""
        @handlers.on("cancel")
        async def cancel(delivery):
            say("began")
            while True:
                await asyncio.sleep(0)
                for task in asyncio.all_tasks():
                    if task is not asyncio.current_task() and "_run" in repr(task.get_coro()):
                        if inspect.getcoroutinestate(task.get_coro()) == "CORO_CREATED":
                            task.cancel()
                            say("cancelled")
                            return

        @handlers.on("work")
        async def work(delivery):
            say("worked")

        import inspect
        """)
    processes.send("cancel")
    worker.wait_for("began")
    processes.send(*["work"] * 20)  # what is taken together with it has begun before it looks
    wait_until(lambda: worker.log.count("worked") >= 20)
    wait_until(processes.is_drained)
    assert worker.stop() == 0


# --- a stop that is held up -----------------------------------------------------------------

LIFESPAN = """
from contextlib import asynccontextmanager

@asynccontextmanager
async def lifespan():
    {before}
    yield
    {after}

handlers = Handlers(lifespan)

@handlers.on("slow")
async def slow(delivery):
    say("slow began")
    await asyncio.to_thread(time.sleep, 600)
"""

HANGS = "say('hangs'); await asyncio.sleep(600)"
BLOCKS = "say('hangs'); time.sleep(600)"
CLINGS = """say('hangs')
    while True:
        try:
            await asyncio.sleep(600)
        except asyncio.CancelledError:
            pass
"""


@pytest.mark.parametrize(("hangs", "status"), [(HANGS, 0), (BLOCKS, 1), (CLINGS, 1)])
def test_a_signal_ends_a_worker_that_hangs_while_it_starts(
    processes: WorkerProcesses, hangs: str, status: int
) -> None:
    worker = processes.start(LIFESPAN.format(before=hangs, after=""), HOOKMILL_SHUTDOWN="2")
    worker.wait_for("hangs")
    began = time.monotonic()
    assert worker.stop() == status
    assert time.monotonic() - began < 2 + 3


@pytest.mark.parametrize("hangs", [HANGS, BLOCKS, CLINGS, ""])
def test_neither_a_lifespan_nor_a_thread_that_does_not_end_keeps_a_worker_that_stops(
    processes: WorkerProcesses, hangs: str
) -> None:
    script = LIFESPAN.format(before="", after=hangs or "pass")
    worker = processes.start(script, HOOKMILL_SHUTDOWN="1", HOOKMILL_LEASE="3600")
    processes.send("slow")
    worker.wait_for("slow began")
    began = time.monotonic()
    assert worker.stop() == 0
    assert time.monotonic() - began < 1 + 6
    assert processes.pending == 0
    assert processes.requeued == 1


EVERYTHING_HANGS = """
import threading
from contextlib import asynccontextmanager

@asynccontextmanager
async def lifespan():
    yield
    while True:
        try:
            await asyncio.sleep(600)
        except asyncio.CancelledError:
            say("the lifespan clings")

handlers = Handlers(lifespan)

@handlers.on("clings")
async def clings(delivery):
    say("began")
    while True:
        try:
            await asyncio.sleep(600)
        except asyncio.CancelledError:
            say("a handler clings")

@handlers.on("stuck")
def stuck(delivery):
    say("began")
    time.sleep(600)
"""


def test_a_stop_ends_within_its_time_whatever_hangs(processes: WorkerProcesses) -> None:
    """A lifespan and a thread that never end ignored SIGTERM for good."""
    worker = processes.start(
        EVERYTHING_HANGS, HOOKMILL_SHUTDOWN="20", HOOKMILL_LEASE="3600", HOOKMILL_STUCK_THREADS="0"
    )
    processes.send("clings", "stuck")
    wait_until(lambda: worker.log.count("began") == 2)
    began = time.monotonic()
    assert worker.stop() == 0
    assert time.monotonic() - began < 20
    assert "a handler clings" in worker.log
    assert "the lifespan clings" in worker.log
    assert processes.requeued == 1  # the other one can be anywhere in its work: it waits its lease
    assert processes.pending == 1
