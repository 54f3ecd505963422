"""A duty goes on, whatever one of its turns meets."""

from __future__ import annotations

import asyncio

import pytest
import structlog

from hookmill.errors import GroupLostError, StreamUnavailableError
from hookmill.runtime import tasks
from hookmill.runtime.tasks import end, repeat


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (StreamUnavailableError("away"), "a duty waits for Redis"),
        (GroupLostError("gone"), "a duty waits for Redis"),
        (RuntimeError("a fault of ours"), "a duty failed, trying again"),
    ],
)
async def test_a_duty_outlives_a_turn_that_fails(
    monkeypatch: pytest.MonkeyPatch, error: Exception, said: str
) -> None:
    monkeypatch.setattr(tasks, "PAUSE_AFTER_ERROR", 0.0)
    turns = 0
    enough = asyncio.Event()

    async def turn() -> float:
        nonlocal turns
        turns += 1
        if turns == 2:
            raise error
        if turns == 4:
            enough.set()
        return 0.0

    with structlog.testing.capture_logs() as logs:
        task = asyncio.create_task(repeat("sweeping", turn))
        await enough.wait()
        await end([task])
    assert [(line["event"], line["duty"]) for line in logs] == [(said, "sweeping")]
    assert task.cancelled()


async def test_a_task_that_misses_its_cancellation_is_cancelled_again() -> None:
    missed = 0

    async def deaf() -> None:
        nonlocal missed
        while missed < 2:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                missed += 1
        await asyncio.sleep(60)

    tasks = [asyncio.create_task(deaf()), asyncio.create_task(asyncio.sleep(0))]
    await asyncio.sleep(0)
    await end(tasks)
    assert missed == 2
    assert tasks[0].cancelled()
    await end([])
