"""What became of messages that somebody watches: their attempts, as the group's history gets them.

It follows the messages that were watched last, for a while. A group without a history tells
nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

from hookmill.admin.units import moment
from hookmill.error_text import last_line
from hookmill.stream.attempts import Attempt, attempt_in, attempts_in, chunk_of
from hookmill.stream.client import Client
from hookmill.stream.history import History, HistoryList

MOST = 1000
"""Messages that are followed: those that were watched last."""

FOLLOWED_FOR = 600.0
"""Seconds for which a message is followed."""

_LISTS = 100
"""Lists of a history that one look reads; the others have their turn at the next ones."""

_NOT_TOLD = frozenset({"fanned_out", "requeued"})
"""What is no outcome."""


class _Followed(NamedTuple):
    facts: dict[str, Any]
    until: float


class OutcomeFeed:
    """Follows messages in one group. Methods raise `StreamUnavailableError`."""

    def __init__(
        self, client: Client, group: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._history = History(client)
        self._group = group
        self._clock = clock
        self._followed: dict[tuple[int, str], _Followed] = {}
        self._positions: dict[HistoryList, int] = {}
        self._turn = 0

    def follow(self, partition: int, token: str, facts: dict[str, Any]) -> None:
        """Follow the message with this owner token. Its `facts` go along with each outcome."""
        self._followed[partition, token] = _Followed(facts, self._clock() + FOLLOWED_FOR)
        while len(self._followed) > MOST:
            del self._followed[next(iter(self._followed))]

    async def look(self) -> list[dict[str, Any]]:
        """Return the outcomes that are new, each with the facts of its message."""
        now = self._clock()
        for key in [key for key, one in self._followed.items() if one.until <= now]:
            del self._followed[key]
        lists = self._lists()
        some, at = lists[:_LISTS], {}
        if len(lists) > _LISTS:
            half = _LISTS // 2
            rest = lists[half:]
            self._turn = (self._turn + half) % len(rest)
            some = [*lists[:half], *(rest[self._turn :] + rest)[:half]]
        # What is not followed any more is not remembered either.
        self._positions = {one: self._positions.get(one, 0) for one in lists}
        at = {one: self._positions[one] for one in some}
        found: list[dict[str, Any]] = []
        for one, items in (await self._history.newer(self._group, at)).items():
            self._positions[one] += len(items)
            found += [seen for item in items for seen in self._told(one, item)]
        return found

    def _lists(self) -> list[HistoryList]:
        """Return the lists in which there may be something: those of the newest messages first."""
        lists: dict[HistoryList, None] = {}
        for partition, token in reversed(self._followed):
            lists[HistoryList(partition, str(chunk_of(token)))] = None
            lists[HistoryList(partition, token)] = None
        return list(lists)

    def _told(self, one: HistoryList, item: bytes) -> list[dict[str, Any]]:
        """Return what an item says of messages that are followed."""
        if followed := self._followed.get((one.partition, one.name)):
            attempt = attempt_in(item)
            return [_described(followed.facts, attempt)] if attempt is not None else []
        return [
            _described(followed.facts, attempt)
            for (partition, token), followed in self._followed.items()
            if partition == one.partition and token.encode() in item
            for attempt in attempts_in(item, token)
            if attempt.kind not in _NOT_TOLD
        ]


def _described(facts: dict[str, Any], attempt: Attempt) -> dict[str, Any]:
    return {
        "at": moment(attempt.began_ms or attempt.written_ms),
        **{name: facts[name] for name in ("entry", "source", "type", "message_id")},
        "outcome": attempt.kind,
        "handler": attempt.handler,
        "attempt": attempt.attempt,
        "worker": attempt.worker,
        "seconds": attempt.seconds,
        "reason": attempt.reason or last_line(attempt.error),
        "is_late": attempt.is_late,
    }
