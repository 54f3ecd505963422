"""Which dead letters a person means: by source, type, handler, reason and time.

No I/O: a dead letter's fields in, whether it is meant out.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime

import msgspec

from hookmill.message import Fields, about_of

_AGO = re.compile("([0-9]{1,9})([smhd])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}

LATEST_MS = 2**48 - 1
"""A time after all others, in Unix milliseconds: no entry has a later ID."""


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """The dead letters for which all is true that is given. In a word, `*` stands for any text.

    `after_ms` and `before_ms` bound the time at which they died by Redis' clock: from the one on,
    and up to the other without it. `limit` is how many at most, the oldest.
    """

    source: str | None = None
    type: str | None = None
    handler: str | None = None
    reason: str | None = None
    after_ms: int | None = None
    before_ms: int | None = None
    limit: int | None = None

    @property
    def is_everything(self) -> bool:
        """Whether nothing but a limit is given."""
        return self == Choice(limit=self.limit)

    @property
    def first_id(self) -> str:
        """The least ID that a dead letter which is meant can have."""
        return f"{self.after_ms or 0}-0"

    def last_id(self, newest: str) -> str:
        """Return the greatest ID that one can have, `newest` being the newest there is."""
        if self.before_ms is None:
            return newest
        # An ID without its second half is, as the end of a range, the last of its millisecond.
        bound = str(max(0, self.before_ms - 1))
        return min(newest, bound, key=lambda entry_id: int(entry_id.partition("-")[0]))

    def matches(self, fields: Fields) -> bool:
        """Return whether a dead letter with these fields is meant; its time is the range's part.

        The fields are read as they stand, so that what this release cannot read can be chosen.
        """
        about = about_of(fields)
        return all(
            pattern is None or _matches(pattern, value)
            for pattern, value in (
                (self.source, about.source),
                (self.type, about.type),
                (self.handler, _text(fields.get(b"handler", b""))),
                (self.reason, _text(fields.get(b"reason", b""))),
            )
        )


def moment_ms(text: str, now: float) -> int:
    """Read a time: ISO 8601 (UTC unless it says otherwise), or how long ago: 90s, 30m, 2h, 7d.

    Returns Unix milliseconds; raises `ValueError` where it is neither.
    """
    if ago := _AGO.fullmatch(text):
        ms = int((now - int(ago[1]) * _SECONDS[ago[2]]) * 1000)
    else:
        moment = datetime.fromisoformat(text)
        # timestamp() would otherwise take it for this machine's own time.
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        ms = round(moment.timestamp() * 1000)
    return min(max(0, ms), LATEST_MS)


def _matches(pattern: str, value: str) -> bool:
    parts = map(re.escape, pattern.split("*"))
    return re.fullmatch(".*".join(parts), value, re.DOTALL) is not None


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")
