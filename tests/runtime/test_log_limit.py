"""Of the log lines that anybody can cause, few are written, and the rest is counted."""

from __future__ import annotations

from hookmill.runtime.log_limit import PER_SECOND, LogLimit
from tests.support import Clock


def test_a_limit_reports_what_it_held_back_once() -> None:
    clock = Clock()
    limit = LogLimit(clock)
    assert [limit.passes() for _ in range(PER_SECOND + 3)].count(True) == PER_SECOND
    clock.now += 0.999
    assert not limit.passes()
    clock.now += 0.001
    assert limit.passes()
    assert limit.report() == {"held_back": 4}
    assert limit.report() == {}
