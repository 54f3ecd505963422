"""Which handled messages an operator means: by source, type, handler, ordering key, time, and
values in the body. No I/O.
"""

from __future__ import annotations

from typing import Any

import msgspec

from hookmill.admin.body_paths import Condition, are_in
from hookmill.admin.units import moment
from hookmill.handlers import matches_pattern
from hookmill.message import Fields, about_of
from hookmill.stream.entries import DeadLetter


class ReplayFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Matches the messages for which every given field is true; `*` stands for any text.

    `since_ms` and `before_ms` bound when a message was appended, by Redis' clock (Unix
    milliseconds). `handler` means what that handler handles: `patterns` are its event types, as
    workers say them.
    """

    source: str | None = None
    type: str | None = None
    handler: str | None = None
    key: str | None = None
    where: tuple[Condition, ...] = ()
    since_ms: int | None = None
    before_ms: int | None = None
    patterns: tuple[str, ...] = ()

    @property
    def is_everything(self) -> bool:
        """Whether no field is given, so that it matches every message."""
        return self == ReplayFilter()

    @property
    def reads_bodies(self) -> bool:
        """Whether it can judge only a message that comes with its body."""
        return bool(self.where)

    def bounded(self, last: str) -> str:
        """Return the highest ID that a matching one can have; `last` is the last there is."""
        if self.before_ms is None or self.before_ms > int(last.partition("-")[0]):
            return last
        return str(max(0, self.before_ms - 1))

    def matches(self, fields: Fields) -> bool:
        """Return whether a message with these fields matches. The range of IDs checks its time."""
        about = about_of(fields)
        key = fields.get(b"key", b"").decode("utf-8", "replace")
        fits = all(
            pattern is None or matches_pattern(pattern, value)
            for pattern, value in (
                (self.source, about.source),
                (self.type, about.type),
                (self.key, key),
            )
        )
        if not fits or (self.handler is not None and not self._is_handled(about.type)):
            return False
        return not self.where or are_in(self.where, fields)

    def _is_handled(self, event_type: str) -> bool:
        return any(matches_pattern(pattern, event_type) for pattern in self.patterns)


def describe_entry(entry: DeadLetter) -> dict[str, Any]:
    """Return what is known of a message in the stream as JSON-ready values."""
    about = about_of(entry.fields)
    return {
        "id": entry.id,
        "message_id": entry.fields.get(b"id", b"").decode("utf-8", "replace"),
        "source": about.source,
        "type": about.type,
        "key": entry.fields.get(b"key", b"").decode("utf-8", "replace"),
        "received_at": moment(about.received_ms),
    }
