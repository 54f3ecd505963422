"""The W3C headers `traceparent` and `baggage`: what is taken from a sender or an entry. No I/O.

OpenTelemetry is not needed for it, so the trace's ID can be logged without.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from multidict import MultiMapping, istr

from hookmill.message import TRACE_FIELD

MAX_BAGGAGE = 2048
"""Bytes of baggage that go with a message; more of it is left out as a whole. There is a limit,
because it is stored with every message.
"""

SAMPLED = 1
"""The flag of a trace that is recorded."""

SAMPLED_DIGITS = frozenset(b"%x" % digit for digit in range(SAMPLED, 16, 2))
"""The last digits of a `traceparent` that is recorded."""

TRACEPARENT, _BAGGAGE = istr("traceparent"), istr("baggage")
"""The names of the headers, in the form in which headers are found the fastest."""

# Only version 00 is known. A later one begins with the same parts and may have more.
_FORM = re.compile(r"(?!ff)([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_NO_TRACE, _NO_SPAN = "0" * 32, "0" * 16
_BAGGAGE_FORM = re.compile(r"[!-~]([ -~\t]*[!-~])?")


class TraceParent(NamedTuple):
    """What a `traceparent` says: the IDs of a trace and of a span in hexadecimal, and flags."""

    trace_id: str
    span_id: str
    flags: int

    def __str__(self) -> str:
        return f"00-{self.trace_id}-{self.span_id}-{self.flags:02x}"

    @property
    def is_sampled(self) -> bool:
        """Whether the span is recorded."""
        return self.flags & SAMPLED == SAMPLED


def read_traceparent(text: str) -> TraceParent | None:
    """Read a `traceparent`. None: it is not valid."""
    found = _FORM.fullmatch(text)
    if found is None:
        return None
    version, trace_id, span_id, flags, more = found.groups()
    if trace_id == _NO_TRACE or span_id == _NO_SPAN or (version == "00" and more):
        return None
    return TraceParent(trace_id, span_id, int(flags, 16))


def traceparent_of(headers: MultiMapping[str]) -> TraceParent | None:
    """Return the one valid `traceparent` among a delivery's headers. Of several, none counts."""
    given = headers.getall(TRACEPARENT, ())
    return read_traceparent(given[0]) if len(given) == 1 else None


def baggage_of(headers: MultiMapping[str]) -> bytes:
    """Return the baggage among a delivery's headers; empty where it is too long or not ASCII."""
    text = ",".join(headers.getall(_BAGGAGE, ()))
    if len(text) > MAX_BAGGAGE or not _BAGGAGE_FORM.fullmatch(text):
        return b""
    return text.encode()


def stored_traceparent(fields: Mapping[bytes, bytes]) -> TraceParent | None:
    """Read the `traceparent` of an entry. None: it has none."""
    raw = fields.get(TRACE_FIELD)
    return None if raw is None else read_traceparent(raw.decode("ascii", "replace"))
