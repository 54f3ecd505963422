"""What the tests of takeovers share: holders that stopped, and workers that look for them."""

from __future__ import annotations

from contextlib import closing

from hookmill.stream.consumer import Consumer
from hookmill.stream.entries import Entry, Settlement
from hookmill.stream.producer import Producer
from tests.support import ANY_BYTES, Clock, message
from worker.takeover import Takeover

LEASE = 8.0
PERIOD = LEASE / 8


async def hold(stream: Producer, gone: Consumer, count: int) -> list[Entry]:
    """Let another consumer hold messages. It has a lease number and renews no more."""
    await stream.append([message() for _ in range(count)])
    entries = (await gone.take(count)).entries
    renew(gone, entries)
    return entries


def renew(gone: Consumer, entries: list[Entry], number: int = 0) -> None:
    with closing(gone.leases()) as leases:
        leases._number = number
        assert leases.renew([entry.ref for entry in entries]) == []


async def settle(group: Consumer, entries: list[Entry]) -> None:
    await group.settle([Settlement(entry.ref) for entry in entries])


async def looked(clock: Clock, seconds: float, *takeovers: Takeover) -> None:
    """Let workers look for so long, one after another."""
    for _ in range(round(seconds / PERIOD)):
        for takeover in takeovers:
            await takeover.look()
        clock.now += PERIOD


async def brought(takeover: Takeover, count: int = 100) -> list[Entry]:
    """Return all that is due to be taken over or recovered now."""
    entries: list[Entry] = []
    while takeover.wait() == 0:
        entries += (await takeover.take(count, [entry.ref for entry in entries], ANY_BYTES)).entries
    return entries
