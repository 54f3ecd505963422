"""A background task outlives its errors, and a cancelled one ends whatever it does about it."""

from __future__ import annotations

import asyncio

import pytest
import structlog

from hookmill.errors import GroupLostError, StreamUnavailableError
from hookmill.runtime import tasks
from hookmill.runtime.tasks import cancel_and_wait, run_periodically


@pytest.mark.parametrize(
    ("error", "logged"),
    [
        (StreamUnavailableError("away"), "background task waits for Redis"),
        (GroupLostError("gone"), "background task waits for Redis"),
        (RuntimeError("a bug of ours"), "background task failed, trying again"),
    ],
)
async def test_a_background_task_outlives_a_run_that_fails(
    monkeypatch: pytest.MonkeyPatch, error: Exception, logged: str
) -> None:
    monkeypatch.setattr(tasks, "PAUSE_AFTER_ERROR", 0.0)
    runs = 0
    enough = asyncio.Event()

    async def run_once() -> float:
        nonlocal runs
        runs += 1
        if runs == 2:
            raise error
        if runs == 4:
            enough.set()
        return 0.0

    with structlog.testing.capture_logs() as logs:
        task = asyncio.create_task(run_periodically("sweeping", run_once))
        await enough.wait()
        await cancel_and_wait([task])
    assert [(line["event"], line["task"]) for line in logs] == [(logged, "sweeping")]
    assert task.cancelled()


async def test_a_run_says_how_long_the_pause_after_it_is() -> None:
    began: list[float] = []
    enough = asyncio.Event()
    loop = asyncio.get_running_loop()

    async def run_once() -> float:
        began.append(loop.time())
        if len(began) == 2:
            enough.set()
        return 0.05

    task = asyncio.create_task(run_periodically("sweeping", run_once))
    await enough.wait()
    await cancel_and_wait([task])
    assert began[1] - began[0] >= 0.05


async def test_a_task_that_swallows_its_cancellations_is_cancelled_again() -> None:
    swallowed = 0

    async def stubborn() -> None:
        nonlocal swallowed
        while swallowed < 2:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                swallowed += 1
        await asyncio.sleep(60)

    tasks = [asyncio.create_task(stubborn()), asyncio.create_task(asyncio.sleep(0))]
    await asyncio.sleep(0)
    await cancel_and_wait(tasks)
    assert swallowed == 2
    assert tasks[0].cancelled()


async def test_a_cancellation_that_wait_for_swallows_is_no_obstacle() -> None:
    """Python 3.11 swallows it here, later versions do not: the task ends with each."""
    operation = asyncio.get_running_loop().create_future()
    waits = asyncio.Event()

    async def connect_and_serve() -> None:
        waits.set()
        await asyncio.wait_for(operation, 60)
        await asyncio.sleep(60)

    task = asyncio.create_task(connect_and_serve())
    await waits.wait()
    operation.set_result(None)  # done in the same moment in which the task is cancelled
    await cancel_and_wait([task])
    assert task.cancelled()


async def test_errors_stay_in_the_tasks_that_had_them() -> None:
    async def fail_when_cancelled() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            raise RuntimeError("a bug of ours")

    task = asyncio.create_task(fail_when_cancelled())
    await asyncio.sleep(0)
    await cancel_and_wait([task])
    with pytest.raises(RuntimeError, match="a bug of ours"):
        await task


async def test_nothing_to_cancel_is_fine() -> None:
    await cancel_and_wait([])
