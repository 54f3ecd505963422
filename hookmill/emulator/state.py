"""All that the stand-in keeps, and the journal of what changed and is not yet written down."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterator
from typing import Generic, NamedTuple, TypeVar

from hookmill.emulator.models import (
    ApiError,
    DeadLetter,
    Gate,
    Keys,
    LogEntry,
    Message,
    Queue,
    Record,
    Remembered,
    Schedule,
    UrlGroup,
)

MOST_LOG_ENTRIES = 10_000

R = TypeVar("R", bound=Record)


class Change(NamedTuple):
    """A record of a table that is now this; None: it is gone."""

    table: str
    key: str
    record: Record | None


class Table(Generic[R]):
    """Records by key, in the order in which the keys came."""

    def __init__(self, name: str, record: type[R], changed: Callable[[Change], None]) -> None:
        self.name = name
        self.record = record
        self._rows: dict[str, R] = {}
        self._changed = changed

    def put(self, key: str, record: R) -> R:
        """Keep a record under its key, in place of one that is there."""
        self._rows[key] = record
        self._changed(Change(self.name, key, record))
        return record

    def drop(self, key: str) -> R | None:
        """Forget a record; return what was there."""
        found = self._rows.pop(key, None)
        if found is not None:
            self._changed(Change(self.name, key, None))
        return found

    def load(self, rows: dict[str, R]) -> None:
        """Take over what was written down before."""
        self._rows = rows

    def find(self, key: str) -> R | None:
        """Return a record, None where there is none."""
        return self._rows.get(key)

    def get(self, key: str) -> R:
        """Return a record; raise `ApiError` 404 where there is none."""
        found = self._rows.get(key)
        if found is None:
            raise ApiError(404, f"{self.name[:-1]} {key!r} not found")
        return found

    def first(self) -> R | None:
        """Return the record whose key came first."""
        return next(iter(self._rows.values()), None)

    def some(self, keys: Collection[str]) -> list[R]:
        """Return the records with these keys; all where none is given."""
        if not keys:
            return self.all()
        found = {key for key in keys if key in self._rows}
        if len(found) <= 1:
            return [self._rows[key] for key in found]
        return [record for key, record in self._rows.items() if key in found]

    def all(self) -> list[R]:
        """Return the records there are now."""
        return list(self._rows.values())

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._rows))

    def __len__(self) -> int:
        return len(self._rows)


class State:
    """The tables and the log. What changes is in `journal` until somebody has written it down."""

    def __init__(self) -> None:
        self.journal: list[Change] = []
        self.entries: list[LogEntry] = []
        """Log entries that are not yet written down."""
        self.log: deque[LogEntry] = deque(maxlen=MOST_LOG_ENTRIES)
        note = self.journal.append
        self.messages = Table("messages", Message, note)
        self.letters = Table("letters", DeadLetter, note)
        self.schedules = Table("schedules", Schedule, note)
        self.topics = Table("topics", UrlGroup, note)
        self.queues = Table("queues", Queue, note)
        self.gates = Table("gates", Gate, note)
        self.remembered = Table("remembered", Remembered, note)
        self.keys = Table("keys", Keys, note)

    @property
    def tables(self) -> tuple[Table[Record], ...]:
        """All of them."""
        return (  # type: ignore[return-value] # what is read from one goes back into the same
            self.messages, self.letters, self.schedules, self.topics, self.queues, self.gates,
            self.remembered, self.keys,
        )  # fmt: skip

    def tell(self, entry: LogEntry) -> None:
        """Add to the log."""
        self.log.append(entry)
        self.entries.append(entry)
