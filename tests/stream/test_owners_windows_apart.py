"""No message ID is forgotten or stays for too long where sources have dedup windows of their own.

The scripts run here with a clock of the test's own (owned.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.stream.owned import ANYWHERE, IDS, ONWARD, WHAT, WINDOWS, Owners, Reply, opened
from tests.support import Server


@pytest.fixture
def owners(server: Server) -> Iterator[Owners]:
    with opened(server) as owners:
        yield owners


OWN_WINDOWS = st.one_of(st.none(), st.sampled_from([1, 5, 20, 60]))


@given(
    window=WINDOWS, steps=st.lists(st.tuples(WHAT, IDS, OWN_WINDOWS, WINDOWS, ONWARD), max_size=40)
)
def test_with_windows_of_their_own_that_change_no_id_is_forgotten_and_none_stays_longer(
    server: Server, window: int, steps: list[tuple[str, int, int | None, int, int]]
) -> None:
    with opened(server) as owners:
        largest = window
        for what, which, asks, other, seconds in steps:
            owners.step(seconds)
            largest = max(largest, asks or 0)
            before = owners.last_seen.get(which)
            mine = other if what == "runs_again" else window  # a worker whose window is another
            largest = max(largest, mine)
            reply: Reply | None = getattr(owners, what)(which, mine, asks=asks)
            if reply is None:
                continue
            assert reply.earlier <= 2 + 2 * 4
            assert reply.lasts <= 2 * largest
            if asks is not None:
                assert reply.window == asks
            if not reply.owns:
                assert before is not None
                assert owners.now - before < 2 * largest, "remembered for too long"


@given(
    window=WINDOWS,
    steps=st.lists(st.tuples(WHAT, IDS, st.one_of(st.none(), WINDOWS), ANYWHERE), max_size=40),
)
def test_with_any_windows_and_a_clock_that_steps_no_id_is_forgotten_and_all_of_them_end(
    server: Server, window: int, steps: list[tuple[str, int, int | None, int]]
) -> None:
    with opened(server) as owners:
        for what, which, asks, seconds in steps:
            owners.step(seconds)
            reply: Reply | None = getattr(owners, what)(which, window, asks=asks)
            assert reply is None or reply.lasts <= 4 * 60


def test_an_id_with_a_short_window_is_forgotten_while_others_stay(owners: Owners) -> None:
    owners.now -= owners.now % 7200
    owners.comes(1, 7200)
    owners.comes(2, 7200, asks=60)
    owners.step(59)
    assert not owners.comes(2, 7200, asks=60).owns
    owners.step(61)
    assert owners.comes(2, 7200, asks=60).owns
    owners.step(7200 + 7079)
    assert not owners.comes(1, 7200).owns
    assert owners.comes(3, 7200).earlier == 1  # the other windows are over, and cost no look-up
    fields: Any = owners.client.hkeys(owners.key)
    assert not [field for field in fields if b"s60" in field or field == b"windows"]


def test_a_source_whose_window_changes_is_known_under_the_old_one(owners: Owners) -> None:
    owners.now -= owners.now % 7200
    owners.comes(1, 7200)
    owners.comes(2, 7200, asks=60)
    for asks in (60, 600, 7200, None):
        assert not owners.comes(1, 7200, asks=asks).owns
        assert not owners.comes(2, 7200, asks=asks).owns
    owners.step(3600)
    assert not owners.comes(1, 7200, asks=60).owns


def test_one_more_window_than_the_bound_goes_to_the_next_longer_one(owners: Owners) -> None:
    owners.now -= owners.now % 7200
    for asks in (60, 120, 180, 600):
        assert owners.comes(asks, 7200, asks=asks).window == asks
    assert owners.comes(1, 7200, asks=200).window == 600
    assert owners.comes(2, 7200, asks=61).window == 120
    assert owners.comes(3, 7200, asks=601).window == 7200
    assert owners.comes(4, 7200, asks=8000).window == 8000  # no worker may make it shorter
    owners.step(2 * 7200)
    assert owners.comes(5, 7200, asks=200).window == 200


@pytest.mark.parametrize("asks", ["", "0", "-5", "nan", "1e3", "99999999999", "\0", "0x10"])
def test_a_window_that_cannot_be_read_counts_as_none(owners: Owners, asks: str) -> None:
    assert owners.own(1, "1-0", 3600).owns
    script = owners.scripts["today"]
    reply = script(keys=[owners.key], args=[owners.now, 3600, b"%016d" % 2, "2-0", asks])
    assert reply[:2] == [1, 3600]


def test_the_sizes_of_a_long_window_do_not_expire_with_the_workers_short_one(
    owners: Owners,
) -> None:
    owners.now -= owners.now % 7200
    owners.comes(0, 60, asks=7200)
    name = f"{owners.now // 7200}s7200"
    owners.client.hset(owners.key, mapping={f"{name}:buckets": 1, f"{name}:size": 1})
    owners.client.delete(*owners.client.scan_iter(f"{owners.key}:*"))
    owners.known.clear()
    owners.comes(5, 60, asks=7200)
    owners.step(60)
    owners.comes(1, 60)  # it opens the next generation of the workers
    owners.step(600)
    assert not owners.comes(5, 60, asks=7200).owns


def test_buckets_of_a_window_grow_and_keep_all_its_ids(owners: Owners) -> None:
    owners.comes(0, 3600, asks=60)
    name = f"{owners.now // 60}s60"
    owners.client.hset(owners.key, mapping={f"{name}:buckets": 1, f"{name}:size": 40})
    owners.client.delete(*owners.client.scan_iter(f"{owners.key}:*"))
    owners.known.clear()
    for which in range(100, 200):
        owners.comes(which, 3600, asks=60)
    buckets: Any = owners.client.hget(owners.key, f"{name}:buckets")
    assert int(buckets) == 4
    for which in range(100, 200):
        assert not owners.comes(which, 3600, asks=None if which % 2 else 60).owns
