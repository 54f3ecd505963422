"""A worker whose looks fail keeps no other one from looking."""

from __future__ import annotations

from typing import Any

from hookmill.errors import StreamUnavailableError
from hookmill.stream.looks import Looks
from hookmill.stream.producer import Producer
from tests.stream.toolkit import OpenGroup
from tests.support import Clock
from tests.worker.takeovers import LEASE, PERIOD, brought, hold, settle
from worker.takeover import Takeover


class Broken(Looks):
    """Gets its turn, and then comes to no end."""

    async def watch(self, *_: Any) -> list[int]:
        raise StreamUnavailableError("no reply in time")


async def test_a_worker_whose_looks_always_fail_leaves_the_turn_to_others(
    stream: Producer, open_group: OpenGroup
) -> None:
    clock = Clock()
    gone, broken, group = [await open_group(name) for name in ("gone", "broken", "c1")]
    held = await hold(stream, gone, 1)
    failing, takeover = Takeover(broken, LEASE, clock), Takeover(group, LEASE, clock)
    failing._looks = Broken(stream.client, broken.name, broken.consumer)
    failed = 0
    for _ in range(round(2 * LEASE / PERIOD)):
        try:
            await failing.look()
        except StreamUnavailableError:
            failed += 1
        await takeover.look()
        clock.now += PERIOD
    assert failed
    entries = await brought(takeover)
    assert [entry.ref for entry in entries] == [entry.ref for entry in held]
    await settle(group, entries)
