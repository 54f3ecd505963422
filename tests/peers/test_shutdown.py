"""A worker that stops or restarts drops nothing, strands nothing, and runs nothing twice."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import redis

from hookmill import Delivery, Handlers, Message
from hookmill.stream.consumer import Consumer
from hookmill.stream.producer import Producer
from tests.peers.view import View
from tests.peers.work import (
    AOF,
    LONG,
    MakeSettings,
    OwnServer,
    StartProgram,
    Work,
    environment,
    names,
    send,
    settings_of,
    working,
)
from tests.support import Server, Stream, eventually, wait_until

# --- what is on its way to a worker that stops ----------------------------------------------


async def test_a_message_that_arrives_after_the_stop_began_is_for_the_next_worker_at_once(
    stream: Producer, settings: MakeSettings, view: View
) -> None:
    """ag2ai/faststream#2462: a fetch cancelled by the stop, or done too late, drops its messages.

    rq/rq#2079, #2236 and taskforcesh/bullmq#3045: popped, but never begun, and orphaned.
    """
    leaving = Work(held=True)
    async with working(settings(lease=LONG, concurrency=1), leaving.handlers) as worker:
        await send(stream, *names(2))
        await eventually(lambda: leaving.began)
        view.client.client_pause(30_000, all=False)
        try:
            leaving.go_on.set()
            await view.held_up(2)  # an acknowledgement, and the next take
            stopping = asyncio.create_task(worker.stop(20))
            await asyncio.sleep(0)  # it has begun
        finally:
            view.client.client_unpause()
        await stopping
    assert leaving.began == leaving.done == Counter(["m0"])
    assert view.pending() == 0
    work = Work()
    async with working(settings(lease=LONG), work.handlers):
        await view.drained()
    assert work.done == Counter(["m1"])
    assert work.attempts == {"m1": 1}


async def test_what_was_taken_over_after_the_stop_began_is_for_the_next_worker_at_once(
    stream: Producer, settings: MakeSettings, view: View, monkeypatch: pytest.MonkeyPatch
) -> None:
    """taskiq-python/taskiq-redis#87: a worker closed while it claims leaves the claim locked."""
    gone = Consumer(stream.client, "main", "gone", dedup_window=3600)
    await gone.open()
    await send(stream, "m0")
    await gone.take(1)
    await gone.close()
    answered, go_on = asyncio.Event(), asyncio.Event()
    take_over = Consumer.take_over

    async def late(self: Consumer, *args: Any) -> Any:
        reply = await take_over(self, *args)
        if reply[0].entries:
            answered.set()
            await go_on.wait()
        return reply

    monkeypatch.setattr(Consumer, "take_over", late)
    leaving = Work()
    async with working(settings(lease=0.5), leaving.handlers) as worker:
        await answered.wait()
        stopping = asyncio.create_task(worker.stop(20))
        await asyncio.sleep(0)
        go_on.set()
        await stopping
    assert (view.pending(), leaving.began) == (0, Counter())
    work = Work()
    async with working(settings(lease=LONG), work.handlers):
        await view.drained()
    assert work.done == Counter(["m0"])


# --- what runs when the stop comes ----------------------------------------------------------


async def test_a_worker_that_waits_for_its_last_handlers_goes_on_renewing_their_leases(
    stream: Producer, settings: MakeSettings, view: View
) -> None:
    """Bogdanp/dramatiq#159, OptimalBits/bull#1615: a graceful stop ends the heartbeat first, so
    what still runs is run elsewhere as well.
    """
    work = Work(held=True)
    async with working(settings(lease=2), work.handlers) as leaving:
        await send(stream, *names(3))
        await eventually(lambda: len(work.began) == 3)
        async with working(settings(lease=2), work.handlers):
            stopping = asyncio.create_task(leaving.stop(60))
            await view.looks(12)
            work.go_on.set()
            await stopping
            await view.drained()
    assert work.began == work.done == Counter(names(3))


async def test_what_does_not_end_in_time_goes_to_the_next_worker_at_once_and_uncounted(
    stream: Producer, settings: MakeSettings, view: View
) -> None:
    """celery/celery#4354, hibiken/asynq#286, #525, saq#127: running when the worker was stopped,
    active for ever after. chrisguidry/docket#212: back after the redelivery timeout only.

    What had not begun was never taken: a worker takes what it has hands for.
    """
    leaving = Work(held=True)
    async with working(settings(lease=LONG, concurrency=5), leaving.handlers) as worker:
        await send(stream, *names(20))
        await eventually(lambda: len(leaving.began) == 5)
        assert view.pending() == 5
        await worker.stop(0)
        assert view.pending() == 0
    work = Work()
    async with working(settings(lease=LONG), work.handlers):
        await view.drained()
    assert not leaving.done
    assert work.began == work.done == Counter(names(20))
    assert set(work.attempts.values()) == {1}


async def test_a_thread_that_outlives_the_stop_keeps_no_other_waiting(
    stream: Producer, settings: MakeSettings, view: View
) -> None:
    """celery/celery#4354, for plain functions: those that wait for a thread never begin."""
    handlers = Handlers()
    go_on = threading.Event()
    began: Counter[str] = Counter()

    @handlers.on("*", name="work")
    def stuck(delivery: Delivery[Message]) -> None:
        began[delivery.id] += 1
        assert go_on.wait(30)

    async with working(settings(lease=LONG, concurrency=5, threads=2), handlers) as worker:
        await send(stream, *names(5))
        await eventually(lambda: len(began) == 2)
        await worker.stop(0)
        assert worker.has_stragglers
    work = Work()
    async with working(settings(lease=LONG), work.handlers):
        await view.drained()
    assert work.done == Counter(names(5))
    go_on.set()
    await eventually(lambda: not worker.has_stragglers)
    assert len(began) == 2


SLOW = """
import asyncio, os
from hookmill import Delivery, Handlers, Message

handlers = Handlers()
ledger = os.open(os.environ["LEDGER"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)

@handlers.on("*", name="work")
async def work(delivery: Delivery[Message]) -> None:
    os.write(ledger, f"begin {delivery.id}\\n".encode())
    while not os.path.exists("go-on"):
        await asyncio.sleep(0.01)
    os.write(ledger, f"end {delivery.id}\\n".encode())
"""


async def test_a_signalled_process_finishes_what_it_runs_takes_no_more_and_ends(
    stream: Producer,
    settings: MakeSettings,
    start_program: StartProgram,
    tmp_path: Path,
    server: Server,
    prefix: str,
    view: View,
) -> None:
    """python-arq/arq#192, #302: a signal cancels what runs. taskiq-python/taskiq#646: the process
    shuts everything down, and stays. celery/kombu#1836: unacknowledged messages lost on SIGTERM.
    """
    (tmp_path / "slow.py").write_text(SLOW)
    ledger = tmp_path / "ledger.txt"
    env = {"LEDGER": str(ledger), "HOOKMILL_CONCURRENCY": "5"}
    program = start_program("worker", "slow:handlers", env=environment(server, prefix) | env)
    await send(stream, *names(12))
    wait_until(lambda: ledger.exists() and ledger.read_text().count("begin") == 5)
    program.signal(signal.SIGTERM)
    program.wait_for('"stopping"')
    (tmp_path / "go-on").touch()
    assert program.wait() == 0, program.log
    assert ledger.read_text().count("begin") == ledger.read_text().count("end") == 5
    assert (view.pending(), view.consumers()) == (0, set())
    work = Work()
    async with working(settings(lease=LONG), work.handlers):
        await view.drained()
    handled = Counter(line.split()[1] for line in ledger.read_text().splitlines() if "end" in line)
    assert handled + work.done == Counter(names(12))


async def test_what_a_cold_stop_cuts_off_is_taken_over(
    stream: Producer,
    settings: MakeSettings,
    start_program: StartProgram,
    tmp_path: Path,
    server: Server,
    prefix: str,
    view: View,
) -> None:
    """rq/rq#2015: after a cold shutdown (a second signal) the jobs are in no registry at all."""
    (tmp_path / "slow.py").write_text(SLOW)
    ledger = tmp_path / "ledger.txt"
    env = environment(server, prefix) | {"LEDGER": str(ledger)}
    program = start_program("worker", "slow:handlers", env=env)
    await send(stream, *names(5))
    wait_until(lambda: ledger.exists() and ledger.read_text().count("begin") == 5)
    program.signal(signal.SIGTERM)
    program.wait_for('"stopping"')
    program.signal(signal.SIGTERM)
    assert program.wait() == 128 + signal.SIGTERM
    work = Work()
    async with working(settings(lease=0.5), work.handlers):
        await view.drained()
    assert work.done == Counter(names(5))


# --- what a killed worker leaves ------------------------------------------------------------


async def test_what_a_killed_worker_ran_is_found_though_all_else_in_redis_is_lost(
    stream: Producer,
    settings: MakeSettings,
    start_program: StartProgram,
    tmp_path: Path,
    server: Server,
    prefix: str,
    view: View,
) -> None:
    """hibiken/asynq#1144 (fix #1158): active, but without its record in the leases: never retried.

    python-arq/arq#343, #316, tobymao/saq#127: in progress until a timeout of hours, or for good.
    """
    (tmp_path / "slow.py").write_text(SLOW)
    ledger = tmp_path / "ledger.txt"
    env = environment(server, prefix) | {"LEDGER": str(ledger)}
    program = start_program("worker", "slow:handlers", env=env)
    await send(stream, *names(5))
    wait_until(lambda: ledger.exists() and ledger.read_text().count("begin") == 5)
    program.kill()
    for key in view.client.scan_iter(f"{prefix}:*", count=1000):
        if key.decode() not in {view.stream, view.again}:
            view.client.delete(key)
    work = Work(timeout=LONG)
    async with working(settings(lease=0.5), work.handlers):
        await view.drained()
    assert work.done == Counter(names(5))


# --- a stop while Redis is away -------------------------------------------------------------


async def test_a_worker_can_be_stopped_without_redis_and_its_messages_are_not_lost(
    own_server: OwnServer,
) -> None:
    """svix/svix-webhooks#734: with its queue gone the server did not shut down any more.

    celery/kombu#305: what was being restored during the shutdown never came back.
    """
    server = own_server(*AOF)
    stream = Stream(server.url, "t")
    configured = settings_of(server)(lease=0.5, concurrency=2)
    leaving = Work(held=True)
    async with working(configured, leaving.handlers) as worker:
        await send(stream, *names(4))
        await eventually(lambda: len(leaving.began) == 2)
        server.kill()
        async with asyncio.timeout(30):
            await worker.stop(0)
    server.start()
    work = Work()
    with redis.Redis.from_url(server.url) as client:
        async with working(configured, work.handlers):
            await eventually(lambda: len(work.done) == 4, timeout=30)
            await View(client, "t").drained()
    await stream.close()
    assert work.done == Counter(names(4))
