"""What a load needs: whole numbers of processes that are enough, and never fewer for more."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from hookmill.admin.capacity import CapacityPlan, Load, plan
from hookmill.admin.capacity_words import limits, notes, rows, title
from hookmill.admin.capacity_words import settings as settings_of
from hookmill.admin.measured import MEASURED
from hookmill.config.settings import Settings

USUAL = Load(rate=50_000, body=2_000, handler=0.02, window=3_600)

loads = st.builds(
    Load,
    rate=st.floats(0.001, 10_000_000),
    body=st.integers(0, 10_000_000),
    handler=st.floats(0, 3_600),
    compute=st.floats(0, 10),
    peak=st.floats(0, 10_000_000),
    peak_for=st.floats(0, 86_400),
    outage=st.floats(0, 864_000),
    window=st.floats(1, 864_000),
    replicas=st.integers(0, 5),
    utilisation=st.floats(0.01, 0.95),
    server_memory=st.floats(1e8, 1e14),
    call=st.floats(0.002, 60),
)

GROWING = ("rate", "body", "handler", "compute", "peak", "peak_for", "outage", "window")


def of(load: Load) -> CapacityPlan:
    return plan(load, MEASURED)


def sizes(found: CapacityPlan) -> dict[str, float]:
    """What must not become less when more is asked."""
    return {
        "receivers": found.receivers.processes,
        "workers": found.workers.processes,
        "shards by CPU": found.shards.by_cpu,
        "shards by memory": found.shards.by_memory,
        "shards": found.shards.masters,
        "memory": found.memory.needed,
        "bytes to Redis": found.wire.to_redis,
    }


@settings(max_examples=50, deadline=None)
@given(loads, st.sampled_from(GROWING), st.floats(1.0, 100.0))
def test_more_of_anything_never_needs_fewer_of_anything(
    load: Load, what: str, times: float
) -> None:
    grown = [what, "peak"] if what == "rate" else [what]  # else a peak would be less of one
    more = replace(
        load, **{name: type(getattr(load, name))(getattr(load, name) * times) for name in grown}
    )
    less, more_needed = sizes(of(load)), sizes(of(more))
    for name, needed in less.items():
        assert more_needed[name] >= needed * (1 - 1e-9), name


@settings(max_examples=50, deadline=None)
@given(loads)
def test_a_plan_is_enough_for_its_load_and_can_be_said_with_settings_that_are_accepted(
    load: Load,
) -> None:
    found = of(load)
    for one in found.limits:
        assert one.rate >= load.rate * 0.999, one.what
    assert [one.rate for one in found.limits] == sorted(one.rate for one in found.limits)
    assert all(math.isfinite(number) for number in sizes(found).values())
    words = [title(load), limits(found), *settings_of(found), *notes(found)]
    named = [one.partition("=") for one in settings_of(found)]
    Settings.model_validate(
        {name.removeprefix("HOOKMILL_").lower(): value for name, _, value in named}
    )
    words += [text for row in rows(found, MEASURED) for text in row]
    assert all(word.strip() and "nan" not in word for word in words)


def test_units_agree_with_a_reckoning_by_hand() -> None:
    """At 50,000 a second and an hour's window: seconds times rates, and bytes times messages."""
    found = of(USUAL)
    assert found.memory.ids == 50_000 * 2 * 3_600 * 37
    assert found.backlog.messages == 50_000 * 600
    assert found.wire.to_redis == pytest.approx(50_000 * MEASURED.to_redis.at(2_000))
    assert found.receivers.processes == math.ceil(50_000 * found.receivers.micros / 1e6 / 0.6)
    in_hand = found.workers.processes * found.workers.concurrency
    assert 50_000 * 0.02 / 0.6 <= in_hand <= 50_000 * 0.04 / 0.6


def test_receivers_and_shards_are_planned_for_the_peak_and_workers_for_the_rate() -> None:
    calm, bursts = of(USUAL), of(replace(USUAL, peak=500_000, peak_for=600))
    assert bursts.receivers.processes > 5 * calm.receivers.processes
    assert bursts.shards.by_cpu > calm.shards.by_cpu
    assert bursts.workers == calm.workers
    assert bursts.backlog.messages == 450_000 * 600


def test_a_backlog_is_cleared_by_what_the_rate_leaves_over() -> None:
    tight, wide = of(replace(USUAL, utilisation=0.6)), of(replace(USUAL, utilisation=0.2))
    assert tight.backlog.seconds_to_clear is not None
    assert wide.backlog.seconds_to_clear is not None
    assert wide.backlog.seconds_to_clear < tight.backlog.seconds_to_clear


def test_calls_that_may_take_longer_need_fewer_shards_where_programs_are_many() -> None:
    many = replace(USUAL, rate=1_000_000)
    assert of(replace(many, call=0.05)).shards.by_cpu < of(replace(many, call=0.005)).shards.by_cpu


def test_what_limits_a_long_window_is_the_memory_of_ids_and_the_plan_says_so() -> None:
    found = of(replace(USUAL, window=259_200))
    assert found.shards.by_memory > found.shards.by_cpu
    assert found.limits[0].what == "memory of Redis"
    assert any("A shorter --window" in note for note in notes(found))


def test_more_shards_than_partitions_are_several_systems() -> None:
    found = of(replace(USUAL, server_memory=1e9))
    assert found.shards.masters > 64
    assert any("2 systems" in note for note in notes(found))
