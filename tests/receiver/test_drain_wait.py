"""The wait of a receiver that is asked to stop can be ended once, and only while it lasts."""

from __future__ import annotations

import asyncio

from receiver.drain_wait import DrainWait
from tests.support import eventually


async def test_only_a_wait_that_is_under_way_can_be_ended() -> None:
    drain = DrainWait(600)
    assert not drain.end()
    waiting = asyncio.create_task(drain.wait())
    await eventually(lambda: drain._is_waiting)
    assert drain.end()
    assert not drain.end()
    await waiting
    assert not drain.end()


async def test_it_ends_by_itself_after_its_time() -> None:
    drain = DrainWait(0.01)
    await drain.wait()
    assert not drain.end()
