"""The lag of the event loop is what a blocked loop makes timers wait."""

from __future__ import annotations

import time

import pytest

from hookmill.instrumentation import loop_lag
from hookmill.instrumentation.loop_lag import LoopLag
from tests.support import eventually


def totals(lag: LoopLag) -> tuple[float, float]:
    (family,) = lag.collect()
    found = {sample.name: sample.value for sample in family.samples}
    return found[f"{family.name}_count"], found[f"{family.name}_sum"]


async def test_a_blocked_loop_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop_lag, "PERIOD", 0.01)
    lag = LoopLag()
    lag.start()
    try:
        time.sleep(0.3)  # noqa: ASYNC251 - it is what blocks the loop
        await eventually(lambda: totals(lag)[1] > 0.2)
    finally:
        lag.stop()
        lag.stop()
    assert totals(lag)[0] >= 1
