"""Counts the commands that Redis runs for messages, also those inside of scripts."""

from __future__ import annotations

import time
from collections.abc import Callable

import redis
from msgspec import structs

from benchmarks import filling
from hookmill.instrumentation.facts import AttemptEnded
from hookmill.message import PACKED_VERSION, Message, Progress
from hookmill.signatures.scheme import Token
from hookmill.stream.arrival import Arrival, row_of
from hookmill.stream.attempts import NO_HISTORY, HistoryBounds
from hookmill.stream.client import Client
from hookmill.stream.consumer import Consumer
from hookmill.stream.entries import Entry, Settlement
from hookmill.stream.producer import Producer
from worker.outcome import Done, Outcome

TURNS = 9
"""The first one loads scripts and does not count. Of the others the dearest does, because chance
decides which of its two streams a take reads first.
"""

REMEMBERED = 6_000
"""Message IDs that the group knows before."""

Commands = dict[str, int]
"""How often each command ran."""


async def count_redis(
    url: str,
    prefix: str,
    at_once: int,
    make: Callable[[int], Message] = filling.message,
    history: HistoryBounds = NO_HISTORY,
) -> dict[str, Commands]:
    """Return what it costs to append `at_once` messages, to take them, and to settle them."""
    stream = Producer(Client(url, prefix))
    group = Consumer(stream.client, "main", "one", dedup_window=86_400, history=history)
    found: dict[str, list[Commands]] = {"append": [], "take": [], "settle": []}
    with redis.Redis.from_url(url) as client:
        await group.open()
        await remember(stream, group)
        for turn in range(TURNS):
            numbers = range(turn * at_once, (turn + 1) * at_once)
            rows = [row_of(make(number), PACKED_VERSION) for number in numbers]
            reset(client)
            await stream.append_rows(rows)
            found["append"].append(ran(client))
            taken = await group.take(at_once)
            found["take"].append(ran(client))
            assert len(taken.entries) == at_once
            await settle(group, taken.entries)
            found["settle"].append(ran(client))
    await group.close()
    await stream.client.close()
    return {
        step: max(turns[1:], key=lambda commands: sum(commands.values()))
        for step, turns in found.items()
    }


async def remember(stream: Producer, group: Consumer) -> None:
    """Let the group know some IDs, so that most of the buckets are there that it keeps them in."""
    for start in range(0, REMEMBERED, 500):
        await stream.append([filling.message(10**9 + start + number) for number in range(500)])
        taken = await group.take(500)
        await settle(group, taken.entries)


async def settle(group: Consumer, entries: list[Entry]) -> None:
    """Settle entries as a worker does whose handler has succeeded."""
    done = Done("do_nothing")
    await group.settle([Settlement(one.ref, ended=attempt(one, done)) for one in entries])


def attempt(entry: Entry, outcome: Outcome) -> AttemptEnded[Outcome]:
    """Return an attempt that has just ended."""
    progress = Progress.from_fields(entry.fields, entry.ref.id)
    return AttemptEnded(entry, None, progress, outcome, time.perf_counter(), 0.001)


def reset(client: redis.Redis) -> None:
    client.config_resetstat()


def ran(client: redis.Redis) -> Commands:
    """Return the commands that ran since the last call, and forget them."""
    stats = client.info("commandstats")
    reset(client)
    ours = {"config|resetstat", "info"}
    counted = {name.removeprefix("cmdstat_"): one["calls"] for name, one in stats.items()}
    return {name: calls for name, calls in counted.items() if name not in ours}


def with_token(number: int) -> Arrival:
    """Return a message that came with a token, which the append remembers."""
    plain = structs.asdict(filling.message(number))
    token = Token(digest=b"%032d" % number, expires=int(time.time()) + 300)
    return Arrival(**plain, token=token)


def with_key(number: int) -> Message:
    """Return a message with an ordering key of its own."""
    return structs.replace(filling.message(number), key=f"key-{number}")
