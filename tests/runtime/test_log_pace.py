"""Of what fails again and again, few failures are logged."""

from __future__ import annotations

from hookmill.runtime.log_pace import PERIOD, LogPace
from tests.support import Clock


def test_the_first_failure_is_logged_and_then_one_each_period() -> None:
    clock = Clock()
    pace = LogPace(clock)
    assert pace.failed()
    assert pace.failures == {}
    assert [pace.failed() for _ in range(3)] == [False] * 3
    clock.now += PERIOD
    assert pace.failed()
    assert pace.failures == {"failures": 5}
    assert not pace.failed()


def test_after_a_success_the_next_failure_is_logged_at_once() -> None:
    pace = LogPace(Clock())
    assert pace.failed()
    assert not pace.failed()
    pace.succeeded()
    assert pace.failed()
    assert pace.failures == {}
