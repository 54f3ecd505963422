"""Counts what goes in and out of a program, for the history of rates that is kept in Redis.

Counting costs one or two entries of a dict. What was counted is taken away once a period, and
`hookmill/stream/rates.py` adds it to the minute. No I/O.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

MOST_TYPES = 200
"""Event types that a program counts apart; further ones are counted together."""

OTHER = "(other)"

MOST_TEXT = 200
"""Characters of a name that are kept."""

Field = tuple[str | int, ...]
"""What is counted: its kind, and its labels. docs/reference/redis-keys.md lists them."""


class RateCounts:
    """The counts of one program since they were last taken."""

    def __init__(self) -> None:
        self._counts: dict[Field, int] = {}
        self._types: set[tuple[str, str]] = set()

    def add(self, field: Field, number: int = 1) -> None:
        """Count something."""
        self._counts[field] = self._counts.get(field, 0) + number

    def bounded_type(self, source: str, event_type: str) -> str:
        """Return an event type, or a word for all others where there are too many: senders choose
        them.
        """
        key = source, event_type
        if key in self._types:
            return event_type
        if len(self._types) >= MOST_TYPES:
            return OTHER
        self._types.add(key)
        return event_type

    def take(self) -> dict[Field, int]:
        """Return what was counted, and begin anew."""
        taken, self._counts = self._counts, {}
        return taken

    def give_back(self, counts: dict[Field, int]) -> None:
        """Add what could not be written."""
        for field, number in counts.items():
            self.add(field, number)


def bucket_of(seconds: float) -> int:
    """Return the number of the bucket for a span of time: bucket N ends at 2 to the N ms."""
    return max(0, int(seconds * 1000)).bit_length()


def bucket_end(bucket: int) -> float:
    """Return where a bucket ends, in seconds."""
    return 2.0**bucket / 1000


def percentile(counts: dict[int, int], share: float) -> float | None:
    """Return below how many seconds a share of what the buckets counted lies, None for nothing."""
    left = share * sum(counts.values())
    for bucket in sorted(counts):
        left -= counts[bucket]
        if left <= 0:
            return bucket_end(bucket)
    return None


def written(counts: dict[Field, int]) -> list[tuple[str, int]]:
    """Return the counts as fields of a hash."""
    short = ([_short(part) for part in field] for field in counts)
    texts = (msgspec.json.encode(parts).decode() for parts in short)
    return list(zip(texts, counts.values(), strict=True))


def read(rows: Iterable[tuple[bytes, bytes]]) -> dict[Field, int]:
    """Read fields of a hash. What was not written by us is left out."""
    found: dict[Field, int] = {}
    for name, number in rows:
        try:
            found[tuple(msgspec.json.decode(name, type=list[str | int]))] = int(number)
        except (msgspec.MsgspecError, ValueError):
            continue
    return found


def _short(part: str | int) -> str | int:
    if isinstance(part, int):
        return part
    return part[:MOST_TEXT].encode("utf-8", "backslashreplace").decode()
