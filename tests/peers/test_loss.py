"""Nothing is lost when a worker dies or a handler fails."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import redis

from hookmill import Delivery, Event, Handlers, Retry
from hookmill.handlers import Backoff
from hookmill.stream.consumer import Consumer
from hookmill.stream.dead_letters import DeadLetters
from hookmill.stream.producer import Producer
from tests.peers.view import View
from tests.peers.work import (
    LONG,
    MakeSettings,
    OwnServer,
    StartProgram,
    Work,
    die,
    environment,
    names,
    send,
    settings_of,
    working,
)
from tests.ports import free_port
from tests.support import Server, Stream, dead_letters, eventually, wait_until

AT_ONCE = Backoff(first=0)


# --- a worker dies --------------------------------------------------------------------------


async def test_a_worker_killed_between_the_taking_and_the_first_handler_loses_nothing(
    stream: Producer,
    settings: MakeSettings,
    start_program: StartProgram,
    tmp_path: Path,
    server: Server,
    prefix: str,
    view: View,
) -> None:
    """rq/rq#2015, #1716, #2424: a job popped by a worker that dies before it starts is nowhere.

    redpanda-data/connect#2662: what is pending is never reclaimed. taskiq-redis 1.2.4, seen: an
    orphan waits until a new message arrives. Here none does.
    """
    await send(stream, *names(5))
    begun = die(start_program, tmp_path, environment(server, prefix), "after take")
    assert begun == []
    assert view.pending() == 5
    work = Work()
    async with working(settings(lease=0.5), work.handlers):
        await view.drained()
    assert work.done == Counter(names(5))


async def test_a_worker_killed_in_its_sweep_locks_no_other_out_of_the_next(
    stream: Producer,
    settings: MakeSettings,
    start_program: StartProgram,
    tmp_path: Path,
    server: Server,
    prefix: str,
    view: View,
) -> None:
    """taskiq-python/taskiq-redis#131: a lock around the claim, held for good after SIGKILL."""
    gone = Consumer(stream.client, "main", "gone", dedup_window=3600)
    await gone.open()
    await send(stream, *names(5))
    await gone.take(5)
    await gone.close()
    die(start_program, tmp_path, environment(server, prefix), "after take_over")
    assert view.pending() == 5
    work = Work()
    async with working(settings(lease=0.5), work.handlers):
        await view.drained()
    assert work.done == Counter(names(5))


async def test_a_worker_killed_while_it_lets_retries_go_loses_none(
    stream: Producer,
    settings: MakeSettings,
    start_program: StartProgram,
    tmp_path: Path,
    server: Server,
    prefix: str,
    view: View,
) -> None:
    """Vexa-ai/vexa#520 (fix #614): retries popped into a process that dies are gone."""
    first = Work()
    first.fails = lambda _: Retry(after=0.5)
    async with working(settings(), first.handlers) as worker:
        await send(stream, *names(5))
        await eventually(lambda: view.client.zcard(view.delayed) == 5)
        await worker.stop(5)
    die(start_program, tmp_path, environment(server, prefix), "after release")
    work = Work()
    async with working(settings(lease=0.5), work.handlers):
        await eventually(lambda: len(work.done) == 5)
        await view.drained()
    assert work.done == Counter(names(5))


async def test_a_worker_killed_before_its_acknowledgement_leaves_nothing_active_for_ever(
    stream: Producer,
    settings: MakeSettings,
    start_program: StartProgram,
    tmp_path: Path,
    server: Server,
    prefix: str,
    view: View,
) -> None:
    """hibiken/asynq#1051: done in reality, never acknowledged, active for ever.

    It runs a second time, which is the price of losing none.
    """
    await send(stream, "m0")
    begun = die(start_program, tmp_path, environment(server, prefix), "before settle")
    assert begun == ["m0"]
    work = Work()
    async with working(settings(lease=0.5), work.handlers):
        await view.drained()
    assert work.done == Counter(["m0"])


def cluster_state(client: redis.Redis) -> str:
    run: Any = client.execute_command
    return str(dict(run("CLUSTER INFO")).get("cluster_state"))


async def test_on_a_server_in_cluster_mode_a_dead_workers_messages_are_taken_over_as_well(
    own_server: OwnServer,
) -> None:
    """taskiq-python/taskiq-redis#130, #97: on Cluster and Sentinel no message is recovered.

    One node with all slots, as managed servers in cluster mode present themselves: every script
    has to keep to one slot.
    """
    server = own_server("--cluster-enabled", "yes", "--cluster-port", str(free_port()))
    with redis.Redis.from_url(server.url) as client:
        run: Any = client.execute_command
        run("CLUSTER ADDSLOTSRANGE", 0, 16383)
        wait_until(lambda: cluster_state(client) == "ok", what="a cluster of one")
        view = View(client, "t")
        stream = Stream(server.url, "t")
        gone = Consumer(stream.client, "main", "gone", dedup_window=3600)
        await gone.open()
        await send(stream, *names(5))
        await gone.take(5)
        await gone.close()
        work = Work(attempts=2, backoff=AT_ONCE)
        work.fails = lambda given: ValueError() if given.id == "m0" else None
        configured = settings_of(server)(lease=0.5)
        async with working(configured, work.handlers):
            await eventually(view.dead_letters, what="m0 to be given up")
            await view.drained()
        await stream.close()
    assert work.done == Counter(names(4, 1))
    assert work.began["m0"] == 2


async def test_a_dead_workers_consumer_stays_until_its_last_message_was_taken_over(
    stream: Producer, settings: MakeSettings, view: View, busy_janitor: None
) -> None:
    """ThreeDotsLabs/watermill-redisstream#24: DELCONSUMER takes what is still pending along."""
    gone = Consumer(stream.client, "main", "gone", dedup_window=3600)
    await gone.open()
    await send(stream, *names(10))
    await gone.take(10)
    await gone.close()
    work = Work(held=True)
    async with working(settings(lease=0.5, concurrency=1), work.handlers):
        await eventually(lambda: work.began, what="the first to be taken over")
        turns = view.calls("xtrim") + 5
        await eventually(lambda: view.calls("xtrim") >= turns, what="turns of the janitor")
        assert "gone" in view.consumers()
        work.go_on.set()
        await view.drained()
        await eventually(lambda: "gone" not in view.consumers(), what="the consumer to go")
    assert work.done == Counter(names(10))


async def test_what_a_living_worker_runs_is_neither_a_dead_letter_nor_run_by_the_others(
    stream: Producer, settings: MakeSettings, view: View
) -> None:
    """rq/rq#2061: another worker's upkeep moved jobs to the failed ones while they ran."""
    work = Work(held=True)
    await send(stream, *names(3))
    # It has no free slot, so only its renewals show that it is alive.
    async with working(settings(lease=2, concurrency=3), work.handlers):
        await eventually(lambda: len(work.began) == 3)
        async with working(settings(lease=2), work.handlers):
            await view.looks(12)
            work.go_on.set()
            await view.drained()
    assert work.began == work.done == Counter(names(3))
    assert view.dead_letters() == []


# --- a handler fails ------------------------------------------------------------------------


async def test_a_handler_that_raised_runs_again_though_its_worker_was_restarted(
    stream: Producer, settings: MakeSettings, view: View
) -> None:
    """FastStream 0.7.8, seen: the entry stays pending and is not delivered after a restart.

    eggai-tech/EggAI#178: the message of a handler that raised was acknowledged, and gone.
    """
    first = Work(backoff=Backoff(first=0.2, factor=1))
    first.fails = lambda _: ValueError("not today")
    async with working(settings(lease=LONG), first.handlers) as worker:
        await send(stream, "m0")
        await eventually(lambda: first.began)
        await worker.stop(5)
    second = Work()
    async with working(settings(lease=LONG), second.handlers):
        await eventually(lambda: second.done)
        await view.drained()
    assert second.done == Counter(["m0"])
    assert second.attempts["m0"] == first.attempts["m0"] + 1


async def test_what_fails_to_the_end_is_kept_whole_and_can_be_replayed(
    stream: Producer, settings: MakeSettings, view: View
) -> None:
    """eggai-tech/EggAI#178: failing messages acknowledged as if they had succeeded.

    Hookaido's changelog: dead letters that were sent back kept their count, and died at once.
    """
    work = Work(attempts=2, backoff=AT_ONCE)
    work.fails = lambda _: ValueError("no such account")
    async with working(settings(), work.handlers):
        await send(stream, "m0", body=b'{"the":"body"}')
        await eventually(view.dead_letters)
        (letter,) = view.dead_letters()
        assert (letter[b"body"], letter[b"reason"]) == (b'{"the":"body"}', b"failed")
        work.fails = lambda _: None
        found = [one.id for one in await dead_letters(stream)]
        assert await DeadLetters(stream.client, "main").replay(found) == 1
        await eventually(lambda: work.done)
        await view.drained()
    assert (work.began["m0"], work.done["m0"], work.attempts["m0"]) == (3, 1, 1)


class OrderPaid(Event, tag="order.paid"):
    amount: int


async def test_what_cannot_be_read_is_kept_with_its_bytes(
    stream: Producer, settings: MakeSettings, view: View
) -> None:
    """taskiq, in its source: an unparsable message is acknowledged and dropped."""
    handlers = Handlers()
    ran = []

    @handlers.on(OrderPaid)
    async def book(delivery: Delivery[OrderPaid]) -> None:
        ran.append(delivery.id)

    async with working(settings(grace=0), handlers):
        await send(stream, "broken", type="order.paid", body=b'{"amount":')
        await send(stream, "wrong", type="order.paid", body=b'{"amount":"much"}')
        view.client.xadd(view.stream, {"who": "wrote this?"})
        await eventually(lambda: len(view.dead_letters()) == 3)
        await view.drained()
    kept = {letter.get(b"body", letter.get(b"who")) for letter in view.dead_letters()}
    assert kept == {b'{"amount":', b'{"amount":"much"}', b"wrote this?"}
    assert ran == []
    view.client.delete(view.dead)
