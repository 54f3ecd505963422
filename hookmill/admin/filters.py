"""Which dead letters an operator means: by ID, or by source, type, handler, reason, key, error,
time, and values in the body.

No I/O: a filter gets the fields of a dead letter and says whether it matches.
"""

from __future__ import annotations

import msgspec

from hookmill.admin.body_paths import Condition, are_in
from hookmill.admin.fingerprints import kind_of
from hookmill.admin.units import seconds_of, unix_ms_of
from hookmill.handlers import matches_pattern
from hookmill.message import Fields, about_of

LATEST_MS = 2**48 - 1
"""A time after all others, in Unix milliseconds: no entry has a later ID."""


class DeadLetterFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Matches the dead letters for which every given field is true; `*` stands for any text.

    `after_ms` and `before_ms` bound the time of death by Redis' clock (Unix milliseconds):
    `after_ms` itself is included, `before_ms` is not. `error` is a fingerprint. Each of the
    conditions in `where` has to match the body.
    """

    source: str | None = None
    type: str | None = None
    handler: str | None = None
    reason: str | None = None
    key: str | None = None
    error: str | None = None
    where: tuple[Condition, ...] = ()
    after_ms: int | None = None
    before_ms: int | None = None

    @property
    def is_everything(self) -> bool:
        """Whether no field is given, so that it matches every dead letter."""
        return self == DeadLetterFilter()

    @property
    def first_id(self) -> str:
        """The lowest ID that a matching dead letter can have."""
        return f"{self.after_ms or 0}-0"

    def last_id(self, newest: str = "+") -> str:
        """Return the highest ID that a matching one can have; `newest` is the newest ID there is.

        It can be a time alone, without the second half of an ID. As the end of a range, that means
        the last entry of its millisecond.
        """
        if self.before_ms is None:
            return newest
        bound = str(max(0, self.before_ms - 1))
        if newest == "+":
            return bound
        return min(newest, bound, key=lambda entry_id: int(entry_id.partition("-")[0]))

    @property
    def reads_bodies(self) -> bool:
        """Whether it can judge only a dead letter that comes with its body."""
        return bool(self.where)

    def matches(self, fields: Fields) -> bool:
        """Return whether a dead letter with these fields matches. The range of IDs checks its time.

        The fields are compared undecoded, so that a message which this release cannot read can be
        selected too.
        """
        about = about_of(fields)
        handler = _text(fields.get(b"handler", b""))
        fits = all(
            pattern is None or matches_pattern(pattern, value)
            for pattern, value in (
                (self.source, about.source),
                (self.type, about.type),
                (self.handler, handler),
                (self.reason, _text(fields.get(b"reason", b""))),
                (self.key, _text(fields.get(b"key", b""))),
            )
        )
        if not fits or (self.error is not None and self.error != _fingerprint(fields, handler)):
            return False
        return not self.where or are_in(self.where, fields)


class Selection(msgspec.Struct, frozen=True, kw_only=True):
    """The dead letters that a request is about.

    Those with these `ids`, in this order; or, where `ids` is None, the oldest or the newest `limit`
    of those that `filter` matches (None: all of them).
    """

    ids: tuple[str, ...] | None = None
    filter: DeadLetterFilter = DeadLetterFilter()
    limit: int | None = None
    newest_first: bool = False


EVERYTHING = Selection()


def moment_ms(text: str, now: float) -> int:
    """Read a time: ISO 8601 (UTC unless it says otherwise), or how long ago: 90s, 30m, 2h, 7d.

    `now` is in Unix seconds. Returns Unix milliseconds. Raises `ValueError` for any other text.
    """
    ago = seconds_of(text)
    ms = unix_ms_of(text) if ago is None else int((now - ago) * 1000)
    return min(max(0, ms), LATEST_MS)


def _fingerprint(fields: Fields, handler: str) -> str:
    return kind_of(_text(fields.get(b"error", b"")), handler).fingerprint


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")
