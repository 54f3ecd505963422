"""How much of each group's work is in which state, as metrics of any program.

All programs say the same of a group, so that it is known at zero workers too. Redis is asked at
most every few seconds, whoever asks for the page, and the page never waits for a Redis that is
away.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sized
from typing import Any

import structlog

from hookmill.errors import GroupLostError, StreamUnavailableError
from hookmill.instrumentation.histograms import gauge, labelled
from hookmill.instrumentation.labels import BoundedLabel
from hookmill.runtime.log_pace import LogPace
from hookmill.runtime.tasks import cancel_and_wait
from hookmill.stream.dead_reasons import OTHER, OWN_REASONS, UNKNOWN
from hookmill.stream.facts import GroupFacts

log = structlog.get_logger("runtime")

PERIOD = 5.0
"""Seconds for which what Redis said is shown."""

PATIENCE = 0.5
"""Seconds that a page waits for Redis, if it answered the last time."""

ASK_TIMEOUT = 4.0
"""Seconds that all questions may take together."""

STATES = ("waiting", "held", "delayed", "again", "parked", "paused", "dead")
"""The states of a message of a group that it has not finished, or has given up."""

MOST_REASONS = 50
"""Values of the label `reason`: handlers may give reasons of their own."""

Look = Callable[[], Awaitable[tuple[GroupFacts, ...]]]


class GroupMetrics:
    """A collector of gauges. `look` asks Redis; `lease` (seconds) decides which workers of an older
    release count as running. `unseen` are the partitions that `look` could not ask.
    """

    def __init__(self, look: Look, lease: float, unseen: Callable[[], Sized] = tuple) -> None:
        self._look = look
        self._unseen = unseen
        self._lease = lease
        self._groups: tuple[GroupFacts, ...] = ()
        self._asked = -PERIOD
        self._answered_at: float | None = None
        self._is_up: bool | None = None
        self._asking: asyncio.Task[None] | None = None
        self._log_pace = LogPace()
        self._reasons = BoundedLabel(MOST_REASONS, (*OWN_REASONS, OTHER, UNKNOWN))

    async def refresh(self) -> None:
        """Ask Redis, unless that was done just now. Return soon, also without an answer."""
        if self._asking is None and time.monotonic() - self._asked >= PERIOD:
            self._asking = asyncio.create_task(self._ask(), name="group metrics")
        if self._asking is not None and self._is_up is not False:
            await asyncio.wait({self._asking}, timeout=PATIENCE)

    async def close(self) -> None:
        """End a question that is under way."""
        if self._asking is not None:
            await cancel_and_wait([self._asking])
            self._asking = None  # a task that is cancelled before its first step runs no code

    def collect(self) -> Iterator[Any]:
        """Yield the gauges. While Redis is away nothing is said of groups."""
        yield gauge(
            "hookmill_redis_up",
            "Whether Redis answered when it was last asked for these metrics.",
            None if self._is_up is None else float(self._is_up),
        )
        yield gauge(
            "hookmill_groups_asked_timestamp_seconds",
            "When Redis last answered what is said of groups here.",
            self._answered_at,
        )
        yield gauge(
            "hookmill_partitions_unseen",
            "Partitions of a cluster that did not answer: what they have is missing in the groups.",
            float(len(self._unseen())) if self._is_up else None,
        )
        groups = self._groups
        yield labelled(
            "gauge",
            "hookmill_group_messages",
            "Messages of a group by state. Where Redis cannot tell how many wait, that is a guess.",
            ("group", "state"),
            [((group.name, state), number) for group in groups for state, number in depth(group)],
        )
        yield labelled(
            "gauge",
            "hookmill_group_dead_letters",
            "Dead letters of a group that lie there now, by reason.",
            ("group", "reason"),
            self._dead_letters(),
        )
        for name, meaning, value in _GAUGES:
            rows = [((group.name,), value(group)) for group in groups]
            yield labelled("gauge", f"hookmill_group_{name}", meaning, ("group",), rows)
        for name, meaning, count in _OF_WORKERS:
            rows = [((group.name,), float(count(group, self._lease))) for group in groups]
            yield labelled("gauge", f"hookmill_group_{name}", meaning, ("group",), rows)

    def _dead_letters(self) -> list[tuple[tuple[str, str], float]]:
        """Return how many dead letters there are of each group and reason."""
        found: Counter[tuple[str, str]] = Counter()
        for group in self._groups:
            for reason, number in group.dead_reasons.items():
                found[group.name, self._reasons.of(reason)] += number
        return [(labels, float(number)) for labels, number in found.items()]

    async def _ask(self) -> None:
        self._asked = time.monotonic()
        try:
            async with asyncio.timeout(ASK_TIMEOUT):
                self._groups = await self._look()
        except (StreamUnavailableError, GroupLostError, TimeoutError) as error:
            self._groups, self._is_up = (), False
            if self._log_pace.failed():
                log.warning(
                    "metrics know nothing of groups", error=str(error) or "no answer in time",
                    **self._log_pace.failures,
                )  # fmt: skip
        else:
            self._log_pace.succeeded()
            self._is_up, self._answered_at = True, time.time()
        finally:
            self._asked = time.monotonic()
            self._asking = None


def depth(group: GroupFacts) -> Iterator[tuple[str, float]]:
    """Yield how many messages of a group are in each state."""
    for state in STATES:
        yield state, group.unread if state == "waiting" else getattr(group, state)


def _seconds(ms: int | None) -> float | None:
    return None if ms is None else ms / 1000


_GAUGES: tuple[tuple[str, str, Callable[[GroupFacts], float | None]], ...] = (
    (
        "runnable_messages",
        "Messages that are held or could be: waiting, again, due. Scale workers by it.",
        lambda group: group.runnable,
    ),
    (
        "oldest_runnable_timestamp_seconds",
        "Since when the oldest message could run that no worker has taken. Absent: there is none.",
        # While all is paused, nothing could run.
        lambda group: _seconds(group.could_run_ms) if group.runnable > group.held else None,
    ),
    (
        "next_due_timestamp_seconds",
        "When the first delayed message is due. Absent: none is delayed.",
        lambda group: _seconds(group.next_due_ms),
    ),
    (
        "backlog_messages",
        "Unfinished messages, which count to the limit of the backlog.",
        lambda group: sum(number for state, number in depth(group) if state != "dead"),
    ),
    (
        "backlog_bytes",
        "Bytes of the unfinished messages, as they were last measured. Absent: never measured.",
        lambda group: group.backlog_bytes,
    ),
    (
        "oldest_dead_timestamp_seconds",
        "When the oldest dead letter was written. Absent: there is none.",
        lambda group: _seconds(group.oldest_dead_ms),
    ),
)

_OF_WORKERS: tuple[tuple[str, str, Callable[[GroupFacts, float], int]], ...] = (
    ("workers", "Workers that run.", GroupFacts.workers),
    (
        "blocked_workers",
        "Workers whose event loop is blocked while they hold messages.",
        lambda group, lease: len(group.blocked(lease)),
    ),
    (
        "heedless_workers",
        "Workers of an older release that run what is paused.",
        lambda group, lease: len(group.heedless(lease)),
    ),
)
