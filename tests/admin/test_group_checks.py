"""The judgement on groups: workers that do not run, advice that loses nothing."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from hookmill.admin.findings import exit_status
from hookmill.admin.group_checks import judge_groups
from hookmill.stream.facts import ConsumerFacts
from tests.admin.facts import BEATING, SET, WORKED, levels, with_groups


@pytest.mark.parametrize(
    "changed", [{"waiting": 1}, {"waiting": None}, {"held": 1}, {"delayed": 1}, {"again": 1}]
)
@pytest.mark.parametrize(
    "consumers",
    [(), (ConsumerFacts(name="gone", pending=1, idle_ms=61_000),)],
)
def test_a_group_with_work_and_no_workers_raises_an_alarm(
    changed: dict[str, Any], consumers: tuple[ConsumerFacts, ...]
) -> None:
    group = msgspec.structs.replace(WORKED, consumers=consumers, **changed)

    found = list(judge_groups(with_groups(group, length=1), SET))

    assert levels(*found) == [
        ("warning", "no worker of group main runs, and messages wait for it"),
    ]
    assert exit_status(found) == 1


@pytest.mark.parametrize(
    ("changed", "lease"),
    [
        ({"waiting": 5}, 60.0),
        ({"consumers": ()}, 60.0),
        ({"waiting": 5, "consumers": (ConsumerFacts(name="c", pending=5, idle_ms=99_000),)}, 100.0),
    ],
)
def test_a_group_that_is_run_or_has_no_work_raises_none(
    changed: dict[str, Any], lease: float
) -> None:
    group = msgspec.structs.replace(WORKED, **changed)
    settings = SET.model_copy(update={"lease": lease})

    assert list(judge_groups(with_groups(group, length=5), settings)) == []


def test_an_idle_worker_with_a_heartbeat_raises_none() -> None:
    # On Redis 7.0, a worker that waits for messages is idle.
    idle = ConsumerFacts(name="c1", pending=0, idle_ms=3_600_000, lease_number=9)
    group = msgspec.structs.replace(WORKED, delayed=2, consumers=(idle,), heartbeats=(BEATING,))

    assert list(judge_groups(with_groups(group, length=2), SET)) == []


def test_a_worker_with_a_blocked_event_loop_is_named() -> None:
    blocked = ConsumerFacts(name="c2", pending=1, idle_ms=20_000, lease_number=9)
    group = msgspec.structs.replace(WORKED, held=1, consumers=(blocked,), heartbeats=(BEATING,))

    (found,) = judge_groups(with_groups(group), SET)

    assert levels(found) == [
        ("warning", "worker c2 in group main is sick: loop_blocked"),
    ]
    assert "the leases of 1 message " in found.why


def test_messages_that_no_group_of_ours_will_ever_see_are_told() -> None:
    other = msgspec.structs.replace(WORKED, name="other")

    found = judge_groups(with_groups(other, length=3), SET)

    assert levels(*found) == [
        ("warning", "there is no group main, and messages are there"),
    ]
    assert list(judge_groups(with_groups(other, length=0), SET)) == []


def test_no_advice_loses_unfinished_work_unsaid() -> None:
    fields = {"waiting": 3, "delayed": 2, "parked": 1000, "dead": 4, "consumers": ()}
    group = msgspec.structs.replace(WORKED, **fields)

    found = next(judge_groups(with_groups(group, length=5), SET))

    assert found.do.startswith(
        "start `hookmill worker --group main`. If nobody needs its unfinished work (3 waiting, "
        "2 delayed, 1,000 parked, 4 dead), `hookmill group drop main` deletes the group with it; "
    )
    assert "DESTROY" not in found.do
