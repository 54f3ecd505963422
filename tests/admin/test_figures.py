"""How a figure is read off for a size, and what a call costs beside its messages."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hookmill.admin.costs import Fleet, Traffic
from hookmill.admin.figures import BySize, InBatches
from hookmill.admin.measured import MEASURED

COST = BySize((100, 1_000, 10_000), (10.0, 8.0, 100.0))


@pytest.mark.parametrize(
    ("size", "value"), [(0, 10), (100, 10), (1_000, 10), (5_500, 55), (10_000, 100), (20_000, 200)]
)
def test_a_figure_lies_on_the_line_between_measured_ones(size: int, value: float) -> None:
    assert COST.at(size) == pytest.approx(value)
    assert COST.more_at(size) == pytest.approx(value - 10)


@given(st.floats(0, 1e8), st.floats(0, 1e8))
def test_a_larger_body_never_costs_less(one: float, other: float) -> None:
    for figure in (COST, *(field for field in MEASURED if isinstance(field, BySize))):
        assert figure.at(min(one, other)) <= figure.at(max(one, other)) * (1 + 1e-12)


def test_a_call_costs_what_small_batches_cost_more() -> None:
    cost = InBatches(small=(10, 6.0), large=(100, 1.5))
    assert cost.call == pytest.approx(50)
    assert cost.each == pytest.approx(1)
    assert cost.of(10, 1) == pytest.approx(60)
    assert InBatches(small=(10, 1.0), large=(100, 1.5)).call == 0


def test_redis_costs_end_to_end_what_was_measured() -> None:
    traffic = Traffic(214, MEASURED.one_core, MEASURED.one_core)
    assert Fleet(1, 1, 1).micros(MEASURED, traffic) == pytest.approx(MEASURED.redis_us, rel=0.01)


def test_a_busier_shard_gets_fuller_calls_so_a_message_costs_it_less() -> None:
    fleet = Fleet(10, 10, 1)
    slow, fast = (Traffic(214, rate, rate) for rate in (100, 20_000))
    assert fleet.micros(MEASURED, fast) < fleet.micros(MEASURED, slow) / 2
    assert fleet.call_ms(MEASURED, fast) > fleet.call_ms(MEASURED, slow)
