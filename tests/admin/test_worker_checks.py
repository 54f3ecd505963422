"""A sick worker is named with its fault and the remedy, and a healthy one is not."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from hookmill.admin.worker_checks import described, is_late, sick_workers
from hookmill.stream.facts import ConsumerFacts, Heartbeat
from tests.admin.facts import BEATING, WORKED


def sick(heartbeat: Heartbeat | None, **consumer: Any) -> list[tuple[str, str]]:
    """The codes of the sick workers of a group with this heartbeat and this consumer."""
    known = ConsumerFacts(name="c1", pending=0, idle_ms=0)
    consumers = (msgspec.structs.replace(known, **consumer),)
    heartbeats = () if heartbeat is None else (heartbeat,)
    group = msgspec.structs.replace(WORKED, consumers=consumers, heartbeats=heartbeats)
    return [(one.name, one.code) for one in sick_workers(group, 60.0)]


def beating(**changed: Any) -> Heartbeat:
    return msgspec.structs.replace(BEATING, **changed)


def test_a_worker_that_says_that_it_is_sick_is_named_with_its_own_words() -> None:
    says = beating(sick="consumes_nothing", sick_why="it took nothing for 22 s")
    group = msgspec.structs.replace(WORKED, heartbeats=(says,))
    (found,) = described(sick_workers(group, 60.0))
    assert found == {
        "name": "c1",
        "code": "consumes_nothing",
        "what": "it took nothing for 22 s",
        "do": "restart the worker: others take over what it holds",
    }


def test_a_blocked_loop_is_known_by_leases_that_are_renewed_beside_a_late_heartbeat() -> None:
    late = beating(age_ms=26_000)
    assert sick(late, pending=1, idle_ms=6_000, lease_number=4) == [("c1", "loop_blocked")]
    assert sick(late, pending=1, idle_ms=26_000, lease_number=4) == [("c1", "heartbeat_late")]
    assert sick(late) == [("c1", "heartbeat_late")]


@pytest.mark.parametrize(("age_ms", "late"), [(0, False), (24_900, False), (25_100, True)])
def test_a_heartbeat_is_late_within_30_seconds(age_ms: int, *, late: bool) -> None:
    assert is_late(beating(age_ms=age_ms)) is late
    assert not is_late(beating(age_ms=age_ms, lease=0.0))  # of a release that says nothing of it


def test_without_a_heartbeat_it_is_blocked_or_killed_if_it_holds_something() -> None:
    assert sick(None, pending=2, idle_ms=20_000, lease_number=4) == [("c1", "loop_blocked")]
    assert sick(None, pending=2, idle_ms=50_000, lease_number=4) == [("c1", "no_heartbeat")]
    assert sick(None, pending=0, idle_ms=50_000, lease_number=4) == []
    assert sick(None, pending=2, idle_ms=50_000) == []  # of release 0.1, which writes none


def test_some_stuck_threads_are_told_before_all_are() -> None:
    assert sick(beating(stuck_threads=3)) == [("c1", "threads_stuck")]
    assert sick(beating(troubles={"2": "it is away"})) == [("c1", "partition_away")]
    assert sick(beating()) == []
