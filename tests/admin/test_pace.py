"""At most so many a second, evenly: on a clock that only sleeping moves."""

from __future__ import annotations

import pytest

from hookmill.admin.pace import Pace


class Time:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.mark.parametrize(
    ("rate", "step", "seconds"),
    [(50.0, 5, 9.9), (5.0, 1, 99.8), (0.5, 1, 998.0), (5000.0, 100, 0.08), (None, 100, 0.0)],
)
async def test_a_rate_spreads_work_evenly(rate: float | None, step: int, seconds: float) -> None:
    clock = Time()
    pace = Pace(rate, 100, clock=clock, sleep=clock.sleep)

    assert pace.step == step
    for _ in range(500 // step):
        await pace.wait(step)
    assert clock.now - 100.0 == pytest.approx(seconds)


async def test_time_that_a_slow_redis_took_is_not_followed_by_a_burst() -> None:
    clock = Time()
    pace = Pace(10.0, 100, clock=clock, sleep=clock.sleep)
    await pace.wait(1)
    clock.now += 60.0

    await pace.wait(1)
    assert clock.now == 160.0
    await pace.wait(1)
    assert clock.now == pytest.approx(160.1)
