"""Messages with ordering keys: sent, settled, and what ordering has left in Redis."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import redis

from hookmill.message import Progress
from hookmill.stream.consumer import Consumer
from hookmill.stream.entries import Entry, FollowUp, Settlement, Taken
from hookmill.stream.producer import Producer
from tests.support import (
    message,
)

OpenGroup = Callable[..., Awaitable[Consumer]]


async def send(stream: Producer, *names: str, source: str = "marble") -> None:
    """Append messages named `KEY-ANYTHING`; a name without a dash has no key."""
    await stream.append(
        [
            message(id=name, source=source, key=name.partition("-")[0] if "-" in name else "")
            for name in names
        ]
    )


def ids(taken: Taken) -> list[str]:
    return [entry.fields[b"id"].decode() for entry in taken.entries]


def settled(entry: Entry, *follow_ups: FollowUp) -> Settlement:
    return Settlement(entry.ref, follow_ups, entry.key, entry.owner)


def again(entry: Entry, handler: str = "", delay_ms: int = 0) -> FollowUp:
    progress = Progress(owner=entry.owner.decode(), handler=handler)
    fields = {**entry.fields, **progress.to_fields()}
    return FollowUp("again", f"{progress.owner}/{handler}", fields, delay_ms)


def aside(entry: Entry, delay_ms: int = 0) -> FollowUp:
    """What is left of a message whose event type no handler knows."""
    retry = again(entry, delay_ms=delay_ms)
    return FollowUp("aside", retry.token, retry.changes, delay_ms)


def dead(entry: Entry) -> FollowUp:
    return FollowUp("dead", "", {**entry.fields, b"owner": entry.owner})


async def settle(group: Consumer, *takings: Taken) -> None:
    await group.settle([settled(entry) for taken in takings for entry in taken.entries])


async def run_all(group: Consumer) -> list[str]:
    """Run whatever there is, to its end; return the message IDs in the order they ran."""
    ran: list[str] = []
    while not (taken := await group.take(10)).is_empty:
        ran += ids(taken)
        await settle(group, taken)
    return ran


def parked(client: redis.Redis, group: Consumer) -> int:
    count: Any = client.get(group.partitions[0].parked)
    return int(count or 0)


def traces(client: redis.Redis, group: Consumer) -> list[Any]:
    """What ordering has left in Redis: busy keys and parked messages."""
    keys = group.partitions[0]
    busy: list[Any] = client.hkeys(keys.busy)
    return [*busy, *client.scan_iter(f"{keys.parked}:*")]


async def fan_out(group: Consumer) -> tuple[Entry, Entry]:
    """Take a message that two handlers want, and then both of its entries."""
    (head,) = (await group.take(10)).entries
    await group.settle([settled(head, again(head, "index"), again(head, "mail"))])
    index, mail = (await group.take(10)).entries
    return index, mail
