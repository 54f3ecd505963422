"""A background task: it runs again and again, can be woken, and always stops."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from structlog.testing import capture_logs

from hookmill.runtime import tasks
from receiver.background import BackgroundTask
from tests.receiver.serving import ends


class Runs:
    """Counts the runs of a task; the run may fail, and may swallow cancellations."""

    def __init__(self) -> None:
        self.count = 0
        self.error: Exception | None = None
        self.swallows = 0
        self.changed = asyncio.Condition()

    async def run_once(self) -> None:
        async with self.changed:
            self.count += 1
            self.changed.notify_all()
        if self.error is not None:
            raise self.error
        while self.swallows:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                self.swallows -= 1

    async def reach(self, count: int) -> None:
        async with asyncio.timeout(10), self.changed:
            await self.changed.wait_for(lambda: self.count >= count)


@pytest.fixture
async def runs() -> AsyncIterator[Runs]:
    yield Runs()
    left = asyncio.all_tasks() - {asyncio.current_task()}
    assert [task.get_name() for task in left if task.get_name() == "tried"] == []


async def test_it_runs_at_the_start_and_every_period(runs: Runs) -> None:
    task = BackgroundTask("tried", runs.run_once, 0.01)
    task.start()
    await runs.reach(3)
    await task.stop()


async def test_it_runs_at_once_when_it_is_woken(runs: Runs) -> None:
    task = BackgroundTask("tried", runs.run_once, 3600)
    task.start()
    await runs.reach(1)
    for count in (2, 3):
        task.wake()
        await runs.reach(count)
    await task.stop()


async def test_an_error_does_not_end_it(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "PAUSE_AFTER_ERROR", 0.0)
    runs.error = RuntimeError("our own fault")
    task = BackgroundTask("tried", runs.run_once, 3600)
    with capture_logs() as lines:
        task.start()
        await runs.reach(3)
        await task.stop()
    assert {line["log_level"] for line in lines} == {"error"}


async def test_stopping_ends_it_although_its_first_cancellation_is_swallowed(runs: Runs) -> None:
    # In Python 3.11 this happens while redis-py connects.
    runs.swallows = 1
    task = BackgroundTask("tried", runs.run_once, 3600)
    task.start()
    await runs.reach(1)
    assert await ends(task.stop())
    assert runs.swallows == 0


async def test_it_can_be_stopped_twice_and_started_again(runs: Runs) -> None:
    task = BackgroundTask("tried", runs.run_once, 3600)
    await task.stop()
    for count in (1, 2):
        task.start()
        await runs.reach(count)
        await task.stop()
        await task.stop()
