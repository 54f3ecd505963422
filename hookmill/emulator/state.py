"""The emulator's state: its tables and its log, and the changes that are not yet saved."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Collection, Iterator
from typing import Generic, NamedTuple, TypeVar

from hookmill.emulator.models import (
    ApiError,
    CronSchedule,
    Deduplication,
    DlqMessage,
    FlowControlKey,
    LogEntry,
    QStashMessage,
    Queue,
    Record,
    SigningKeys,
    UrlGroup,
)

MAX_LOG_ENTRIES = 10_000

R = TypeVar("R", bound=Record)

Save = Callable[[], Awaitable[None]]
"""Saves the changes of the state. Raises `HookmillError`."""


class RecordChange(NamedTuple):
    """A new value of a record in a table. None: the record was deleted."""

    table: str
    key: str
    record: Record | None


class Table(Generic[R]):
    """Records by key, in the order in which the keys were added.

    `name` is a part of the table's key in Redis. `noun` names a record in errors.
    """

    def __init__(
        self, name: str, noun: str, record: type[R], on_change: Callable[[RecordChange], None]
    ) -> None:
        self.name = name
        self.record = record
        self._noun = noun
        self._rows: dict[str, R] = {}
        self._on_change = on_change

    def put(self, key: str, record: R) -> R:
        """Add a record, or replace the one with this key."""
        self._rows[key] = record
        self._on_change(RecordChange(self.name, key, record))
        return record

    def drop(self, key: str) -> R | None:
        """Delete a record and return it; None if it is unknown."""
        found = self._rows.pop(key, None)
        if found is not None:
            self._on_change(RecordChange(self.name, key, None))
        return found

    def drop_first_while(self, is_over: Callable[[R], bool]) -> None:
        """Delete records from the beginning of the table while `is_over` is true for them."""
        first = next(iter(self._rows.values()), None)
        if first is None or not is_over(first):
            return  # the usual case, without a copy of the keys
        for key in list(self._rows):
            if not is_over(self._rows[key]):
                break
            self.drop(key)

    def load(self, rows: dict[str, R]) -> None:
        """Set the records that were saved before."""
        self._rows = rows

    def find(self, key: str) -> R | None:
        """Return a record; None if it is unknown."""
        return self._rows.get(key)

    def get(self, key: str) -> R:
        """Return a record; raise `ApiError` 404 if it is unknown."""
        found = self._rows.get(key)
        if found is None:
            raise ApiError(404, f"{self._noun} {key!r} not found")
        return found

    def some(self, keys: Collection[str]) -> list[R]:
        """Return the records with these keys; all records if no key is given."""
        if not keys:
            return self.all()
        found = {key for key in keys if key in self._rows}
        if len(found) <= 1:
            return [self._rows[key] for key in found]
        return [record for key, record in self._rows.items() if key in found]

    def all(self) -> list[R]:
        """Return all records."""
        return list(self._rows.values())

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._rows))

    def __len__(self) -> int:
        return len(self._rows)


class State:
    """All tables and the log. `journal` and `new_entries` hold what is not yet saved."""

    def __init__(self) -> None:
        self.journal: list[RecordChange] = []
        self.new_entries: list[LogEntry] = []
        self.log: deque[LogEntry] = deque(maxlen=MAX_LOG_ENTRIES)
        note = self.journal.append
        # The names are parts of keys in Redis and stay as the first release wrote them.
        self.messages = Table("messages", "message", QStashMessage, note)
        self.dlq = Table("letters", "DLQ message", DlqMessage, note)
        self.schedules = Table("schedules", "schedule", CronSchedule, note)
        self.url_groups = Table("topics", "URL group", UrlGroup, note)
        self.queues = Table("queues", "queue", Queue, note)
        self.flow_controls = Table("gates", "flow-control key", FlowControlKey, note)
        self.deduplications = Table("remembered", "deduplication ID", Deduplication, note)
        self.keys = Table("keys", "signing key", SigningKeys, note)

    @property
    def tables(self) -> tuple[Table[Record], ...]:
        """All tables."""
        return (  # type: ignore[return-value] # a record is put back into the table it came from
            self.messages, self.dlq, self.schedules, self.url_groups, self.queues,
            self.flow_controls, self.deduplications, self.keys,
        )  # fmt: skip

    def add_log_entry(self, entry: LogEntry) -> None:
        """Add an entry to the log."""
        self.log.append(entry)
        self.new_entries.append(entry)
