"""Judges the workers of a group by their heartbeats: which are sick, why, and what to do. No I/O.

A worker whose event loop is blocked cannot say so in Redis: its heartbeat is late, or gone, while a
thread of it still renews its leases.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from hookmill.admin.units import count
from hookmill.stream.facts import ConsumerFacts, GroupFacts, Heartbeat

LATE = 5.0
"""Seconds by which a heartbeat may be late. It is due every third of a lease."""

_UNBLOCK = (
    "find the handler that blocks the loop (its log and `/healthz` name it), and make it a plain "
    "`def`, which runs in a thread. If it does not end, stop the worker: others take over its "
    "messages"
)


class SickWorker(NamedTuple):
    """A worker that is not well: its name, a short code, what is wrong, and what to do."""

    name: str
    code: str
    what: str
    do: str


def sick_workers(group: GroupFacts, lease: float) -> list[SickWorker]:
    """Return the workers of a group that are not well. `lease` (seconds) is for those that do not
    state their own.
    """
    return [*_with_heartbeat(group), *_without_heartbeat(group, lease)]


def described(sick: list[SickWorker]) -> list[dict[str, Any]]:
    """Return sick workers as JSON-ready values."""
    return [one._asdict() for one in sick]


def _with_heartbeat(group: GroupFacts) -> Iterator[SickWorker]:
    consumers = {one.name: one for one in group.consumers}
    for one in group.heartbeats:
        if is_late(one):
            yield _late(one, consumers.get(one.name))
        elif one.sick:
            yield SickWorker(one.name, one.sick, one.sick_why, _remedy(one.sick))
        elif one.troubles:
            numbers = sorted(one.troubles, key=lambda number: (len(number), number))
            yield SickWorker(
                one.name,
                "partition_away",
                f"it takes nothing from {_partitions(numbers)}: {one.troubles[numbers[0]]}",
                "see whether the servers that have them are well (`hookmill check`); it takes from "
                "the others meanwhile",
            )
        elif one.stuck_threads:
            threads = count(one.stuck_threads, "thread is", "threads are")
            yield SickWorker(
                one.name,
                "threads_stuck",
                f"{threads} stuck of {one.threads}: plain functions run beyond the timeout of "
                "their handler",
                "give what they wait for a timeout of its own (`kill -USR1` shows where they are). "
                "The worker ends by itself at HOOKMILL_STUCK_THREADS",
            )


def _partitions(numbers: Sequence[str]) -> str:
    return f"partition{'s' if len(numbers) > 1 else ''} {', '.join(numbers)}"


def is_late(heartbeat: Heartbeat) -> bool:
    """Return whether a heartbeat should have been followed by another one."""
    return bool(heartbeat.lease) and heartbeat.age_ms > (heartbeat.lease / 3 + LATE) * 1000


def _late(heartbeat: Heartbeat, consumer: ConsumerFacts | None) -> SickWorker:
    age = heartbeat.age_ms / 1000
    renewed = (
        consumer is not None and consumer.pending and consumer.idle_ms < heartbeat.age_ms - 1000
    )
    if renewed:
        return SickWorker(
            heartbeat.name,
            "loop_blocked",
            f"its event loop is blocked: its last heartbeat is {age:.0f} s old, but its leases are "
            "still renewed",
            _UNBLOCK,
        )
    return SickWorker(
        heartbeat.name,
        "heartbeat_late",
        f"its last heartbeat is {age:.0f} s old: its event loop is blocked, it was killed, or it "
        "has lost its connection to Redis",
        "look at its log and its `/healthz`. If it does not run, others take over what it holds",
    )


def _without_heartbeat(group: GroupFacts, lease: float) -> Iterator[SickWorker]:
    blocked = {one.name for one in group.blocked(lease)}
    for one in group.without_heartbeat:
        messages = count(one.pending, "message", "messages")
        if one.name in blocked:
            yield SickWorker(
                one.name,
                "loop_blocked",
                f"its event loop is blocked: it renews the leases of {messages} but writes no "
                "heartbeat",
                _UNBLOCK,
            )
        elif one.lease_number is not None and one.pending:
            yield SickWorker(
                one.name,
                "no_heartbeat",
                f"it writes no heartbeat and holds {messages}: it was killed, or has lost its "
                "connection to Redis",
                "others take over what it holds within two leases. If it still runs, look why it "
                "does not reach Redis",
            )


def _remedy(code: str) -> str:
    if code == "loop_blocked":
        return _UNBLOCK
    return "restart the worker: others take over what it holds"
