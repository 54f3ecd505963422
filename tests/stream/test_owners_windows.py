"""No message ID is forgotten while the dedup window changes, or while Redis' clock steps.

The scripts run here with a clock of the test's own (owned.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.stream.owned import ANYWHERE, IDS, ONWARD, RELEASES, WHAT, WINDOWS, Owners, Reply, opened
from tests.support import Server


@pytest.fixture
def owners(server: Server) -> Iterator[Owners]:
    with opened(server) as owners:
        yield owners


@given(steps=st.lists(st.tuples(WHAT, IDS, WINDOWS, ONWARD), max_size=40))
def test_while_the_window_changes_no_id_is_forgotten(
    server: Server, steps: list[tuple[str, int, int, int]]
) -> None:
    with opened(server) as owners:
        largest = 0
        for what, which, window, seconds in steps:
            owners.step(seconds)
            largest = max(largest, window)
            before = owners.last_seen.get(which)
            reply: Reply | None = getattr(owners, what)(which, window)
            if reply is None:
                continue
            assert reply.earlier <= 2
            assert reply.lasts <= 2 * largest
            if not reply.owns:
                assert before is not None
                assert owners.now - before < 2 * largest, "remembered for too long"


@given(steps=st.lists(st.tuples(WHAT, IDS, WINDOWS, ANYWHERE), max_size=40))
def test_while_the_clock_steps_no_id_is_forgotten_before_its_time_and_all_of_them_end(
    server: Server, steps: list[tuple[str, int, int, int]]
) -> None:
    with opened(server) as owners:
        largest = 0
        for what, which, window, seconds in steps:
            owners.step(seconds)
            reply: Reply | None = getattr(owners, what)(which, window)
            assert reply is None or reply.earlier < 8
            largest = max(largest, window)
            assert reply is None or reply.lasts <= 4 * largest


@given(
    window=WINDOWS,
    steps=st.lists(st.tuples(WHAT, IDS, st.sampled_from(list(RELEASES)), ONWARD), max_size=40),
)
def test_beside_workers_of_0_1_with_the_same_window_no_id_is_forgotten(
    server: Server, window: int, steps: list[tuple[str, int, str, int]]
) -> None:
    with opened(server) as owners:
        for what, which, release, seconds in steps:
            owners.step(seconds)
            getattr(owners, what)(which, window, release)


@given(
    windows=st.tuples(WINDOWS, WINDOWS),
    old=st.lists(st.tuples(WHAT, IDS, ONWARD), max_size=40),
    new=st.lists(st.tuples(WHAT, IDS, ONWARD), max_size=40),
)
def test_what_0_1_recorded_is_known_with_another_window(
    server: Server,
    windows: tuple[int, int],
    old: list[tuple[str, int, int]],
    new: list[tuple[str, int, int]],
) -> None:
    with opened(server) as owners:
        for window, release, steps in zip(windows, ("0.1", "today"), (old, new), strict=True):
            for what, which, seconds in steps:
                owners.step(seconds)
                getattr(owners, what)(which, window, release)


def test_a_changed_window_counts_from_the_next_generation_on(owners: Owners) -> None:
    owners.now -= owners.now % 3600
    assert owners.comes(1, 3600).window == 3600
    owners.step(3599)
    assert owners.comes(2, 60).window == 3600  # side by side, whichever takes
    owners.step(1)
    third = owners.comes(3, 60)
    assert third[:3] == (True, 60, 1)
    assert 3599 <= third.lasts <= 3600  # by the server's clock, which runs on
    for minute in range(59):
        owners.step(60)
        assert not owners.comes(2, 60).owns  # recorded under the old window
        assert owners.comes(100 + minute, 60).earlier == 2
    owners.step(60)
    assert owners.comes(2, 60).owns
    assert owners.comes(3, 60).earlier == 1


def test_a_look_up_asks_three_generations_at_most_however_often_the_window_gets_smaller(
    owners: Owners,
) -> None:
    owners.now -= owners.now % 3600
    owners.comes(1, 3600)
    owners.step(3600)
    assert owners.comes(2, 600).window == 600
    for which in range(3, 8):
        owners.step(600)
        reply = owners.comes(which, 60)
        assert (reply.window, reply.earlier) == (600, 2)
    owners.step(600)
    reply = owners.comes(8, 60)
    assert (reply.window, reply.earlier) == (60, 1)


def test_an_id_is_known_after_the_clock_was_set_back(owners: Owners) -> None:
    for back in (60, 3599, 3600, 7200, 5 * 3600, 365 * 86_400):
        owners.step(3 * 365 * 86_400)
        owners.comes(back, 3600)
        owners.step(-back)
        assert not owners.comes(back, 3600).owns
        owners.step(3599)
        assert not owners.comes(back, 3600).owns


def test_what_a_clock_far_ahead_recorded_does_not_stay_for_years(owners: Owners) -> None:
    owners.now += 3 * 365 * 86_400
    for which in range(200):  # several buckets
        owners.comes(which, 3600)
    owners.step(-2 * 365 * 86_400)
    assert not owners.comes(199, 3600).owns
    assert owners.comes(1000, 3600).lasts <= 2 * 3600
    owners.step(2 * 3600)
    assert owners.comes(199, 3600).owns


def test_a_small_window_after_a_large_one_begins_with_few_buckets(owners: Owners) -> None:
    owners.now -= owners.now % 36_000
    owners.comes(1, 36_000)
    owners.client.hset(owners.key, f"{owners.now // 36_000}:size", 1_600_000)
    owners.step(36_000)
    owners.comes(2, 3600)
    counts: Any = owners.client.hget(owners.key, f"{owners.now // 3600}:buckets")
    assert int(counts) == 4000
