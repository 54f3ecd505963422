"""The facts of a group, added up over the partitions, and limits split over them."""

from __future__ import annotations

import pytest

from hookmill.stream.facts import Backlog, ConsumerFacts, GroupFacts, Heartbeat, sum_of


def group(**facts: object) -> GroupFacts:
    counts = ("held", "delayed", "again", "parked", "dead", "remembered", "duplicates", "late")
    given = dict.fromkeys(counts, 0) | {"waiting": 0, "oldest_ms": None, "consumers": ()}
    return GroupFacts(name="main", **{**given, **facts})  # type: ignore[arg-type] # any of them


def test_counts_are_added_up_and_the_oldest_message_is_the_oldest_of_all() -> None:
    parts = [
        group(waiting=1, held=2, delayed=3, again=4, parked=5, dead=6, oldest_ms=90),
        group(waiting=10, held=20, delayed=30, again=40, parked=50, dead=60, oldest_ms=70),
        group(remembered=7, duplicates=8, late=9),
    ]
    assert sum_of(parts) == group(
        waiting=11,
        held=22,
        delayed=33,
        again=44,
        parked=55,
        dead=66,
        oldest_ms=70,
        remembered=7,
        duplicates=8,
        late=9,
    )


def test_what_one_partition_cannot_say_is_not_known_of_the_group() -> None:
    assert sum_of([group(waiting=3), group(waiting=None)]).waiting is None


def test_a_consumer_of_several_partitions_is_one_and_as_silent_as_where_it_spoke_last() -> None:
    def consumer(name: str, pending: int, idle_ms: int) -> ConsumerFacts:
        return ConsumerFacts(name=name, pending=pending, idle_ms=idle_ms)

    whole = sum_of(
        [
            group(consumers=(consumer("c2", 1, 50), consumer("c1", 2, 9_000))),
            group(consumers=(consumer("c1", 3, 40),)),
        ]
    )
    assert whole.consumers == (consumer("c1", 5, 40), consumer("c2", 1, 50))


@pytest.mark.parametrize(("lease", "workers"), [(1.0, 1), (300.0, 2)])
def test_a_worker_counts_until_it_was_silent_for_a_minute_or_a_lease(
    lease: float, workers: int
) -> None:
    both = tuple(
        ConsumerFacts(name=name, pending=0, idle_ms=idle_ms)
        for name, idle_ms in (("new", 59_000), ("old", 61_000))
    )
    assert group(consumers=both).workers(lease) == workers


def test_a_worker_with_a_heartbeat_counts_however_long_it_was_idle() -> None:
    idle = ConsumerFacts(name="c1", pending=0, idle_ms=3_600_000, lease_number=9)
    assert group(consumers=(idle,)).workers(60.0) == 0
    assert group(consumers=(idle,), heartbeats=(Heartbeat(name="c1"),)).workers(60.0) == 1
    assert group(heartbeats=(Heartbeat(name="c1"),)).workers(60.0) == 1  # it has taken nothing yet


def test_a_worker_of_this_release_does_not_count_without_a_heartbeat() -> None:
    one = ConsumerFacts(name="c1", pending=0, idle_ms=10, lease_number=9)
    assert group(consumers=(one,)).workers(60.0) == 0
    assert group(consumers=(one,)).without_heartbeat == [one]


@pytest.mark.parametrize(
    ("idle_ms", "pending", "lease_number", "is_blocked"),
    [(20_000, 1, 9, True), (40_000, 1, 9, False), (20_000, 0, 9, False), (20_000, 1, None, False)],
)
def test_a_loop_is_blocked_where_leases_are_renewed_without_a_heartbeat(
    idle_ms: int, pending: int, lease_number: int | None, is_blocked: bool
) -> None:
    one = ConsumerFacts(name="c1", pending=pending, idle_ms=idle_ms, lease_number=lease_number)
    assert group(consumers=(one,)).blocked(60.0) == ([one] if is_blocked else [])
    assert group(consumers=(one,), heartbeats=(Heartbeat(name="c1"),)).blocked(60.0) == []


def test_a_limit_is_split_so_that_no_partition_has_none() -> None:
    assert Backlog(10, 1000).share(4) == Backlog(3, 250)
    assert Backlog(1, 1).share(16) == Backlog(1, 1)
    assert Backlog(0, 0).share(4) == Backlog(0, 0)  # no limit
