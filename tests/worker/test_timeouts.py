"""A call that runs longer than its timeout is cancelled, and no other is."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from worker.timeouts import Timeouts


async def run(limits: Timeouts, seconds: float, timeout: float) -> None:
    with limits.of(timeout):
        await asyncio.sleep(seconds)


async def test_what_runs_too_long_is_ended_and_its_task_goes_on() -> None:
    limits = Timeouts()
    with pytest.raises(TimeoutError, match=r"ran longer than its timeout of 0\.01 s"):
        await run(limits, 5, 0.01)
    task = asyncio.current_task()
    assert task is not None
    assert not task.cancelling()
    await run(limits, 0, 0.01)


async def test_each_of_the_same_timeout_expires_at_its_own_time() -> None:
    limits = Timeouts()
    early = asyncio.create_task(run(limits, 60, 2))
    done = asyncio.create_task(run(limits, 0, 2))
    await asyncio.sleep(1)
    late = asyncio.create_task(run(limits, 60, 2))
    short = asyncio.create_task(run(limits, 60, 0.01))
    await asyncio.wait({early, short})
    assert isinstance(early.exception(), TimeoutError)
    assert isinstance(short.exception(), TimeoutError)
    assert done.exception() is None
    assert not late.done()
    await asyncio.wait({late})
    assert isinstance(late.exception(), TimeoutError)


async def test_a_cancellation_from_outside_stays_one() -> None:
    limits = Timeouts()
    task = asyncio.create_task(run(limits, 5, 5))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_cancellation_from_outside_at_the_same_time_wins() -> None:
    async def stubborn() -> None:
        with Timeouts().of(0.01):
            try:
                await asyncio.sleep(5)
            except asyncio.CancelledError:
                task = asyncio.current_task()
                assert task is not None
                task.cancel()
                raise

    with pytest.raises(asyncio.CancelledError):
        await asyncio.create_task(stubborn())


async def test_a_call_that_swallows_its_cancellation_is_known() -> None:
    with Timeouts().of(0.01) as limit, suppress(asyncio.CancelledError):
        await asyncio.sleep(5)
    assert limit.has_expired


async def test_a_timeout_of_the_handlers_own_stays_its_own() -> None:
    with pytest.raises(TimeoutError, match="mine"), Timeouts().of(5):
        raise TimeoutError("mine")
