"""A process that is sick or silent is replaced, and a healthy one is not."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from hookmill.runtime.health_watch import HealthWatch
from hookmill.runtime.seat import Seat
from tests.runtime.supervising import CHILD
from tests.support import eventually


@asynccontextmanager
async def watched_seat(period: float) -> AsyncIterator[Seat]:
    """A seat whose process is looked after every so many seconds."""
    stopping = asyncio.Event()
    seat = Seat(1, [sys.executable, "-c", CHILD], None, 20.0, stopping)

    async def look() -> None:
        while True:
            seat.look_whether_they_ended()
            await asyncio.sleep(0.02)

    looking = asyncio.create_task(look())
    keeping = asyncio.create_task(seat.keep())
    watching = asyncio.create_task(HealthWatch([seat], period).run())
    try:
        await eventually(lambda: seat.is_ready, what="the process to be ready")
        yield seat
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        stopping.set()
        await keeping
        for child in tuple(seat.started):
            await seat.see_off(child)
        looking.cancel()
        await asyncio.gather(looking, return_exceptions=True)


@pytest.mark.parametrize("says", ['503 {"error": "loop_blocked", "detail": "..."}', "200 nothing"])
async def test_one_that_is_sick_or_silent_is_replaced(
    says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    async with watched_seat(0.05) as seat:
        first = seat.child
        assert first is not None
        (tmp_path / "healthz-1").write_text(says)
        await eventually(lambda: seat.child is not first, what="another process")
        (tmp_path / "healthz-1").unlink(missing_ok=True)
        await eventually(first.ended.is_set, what="the end of the first one")
        assert first.is_asked_to_stop
        assert first.status == 0
        await eventually(lambda: seat.is_ready)
    assert not seat.started


async def test_one_that_is_well_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    async with watched_seat(0.001) as seat:
        first = seat.child
        await asyncio.sleep(0.2)  # many looks
        assert seat.child is first
