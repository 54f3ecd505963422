"""Requests for the intake, and what it makes of them."""

from __future__ import annotations

from msgspec.structs import replace
from multidict import CIMultiDict

from hookmill.config.identity import id_from_body, identify_marble, identify_qstash, ordered_by
from hookmill.config.sources import Source
from hookmill.message import Message
from hookmill.signatures import Scheme
from hookmill.signatures.marble import marble_scheme
from hookmill.signatures.qstash import QStash
from hookmill.stream.arrival import Arrival
from receiver.intake import Admitted, ReceivedRequest
from receiver.responses import Refusal
from tests.support import CURRENT_KEY, MARBLE_SECRET, NEXT_KEY, signed_headers

NOW = 1_700_000_000.25
LIMIT = 1000
PUBLIC_URL = "https://app.example"

QSTASH = Source(
    "qstash", "/qstash", QStash([CURRENT_KEY, NEXT_KEY], public_url=PUBLIC_URL), identify_qstash
)
MARBLE = Source("marble", "/marble", marble_scheme([MARBLE_SECRET]), identify_marble)
TIMESTAMPED = Source(
    "marble", "/cms", marble_scheme([MARBLE_SECRET], with_time=True), identify_marble
)
ORDERED = replace(MARBLE, key_of=ordered_by("data.id"))
NAMED_AFTER_BODY = replace(QSTASH, identify=id_from_body(identify_qstash))
SOURCES = [QSTASH, MARBLE, TIMESTAMPED, ORDERED, NAMED_AFTER_BODY]

RawHeaders = tuple[tuple[bytes, bytes], ...]


def request(target: str, raw_headers: RawHeaders, body: bytes) -> ReceivedRequest:
    """A request as aiohttp decodes it: bytes that are not UTF-8 become surrogate escapes."""
    headers = CIMultiDict[str]()
    for name, value in raw_headers:
        headers.add(_shown(name), _shown(value))
    return ReceivedRequest(target, headers, raw_headers, body)


def _shown(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")


def signed(
    source: Source, body: bytes, *more: tuple[bytes, bytes], scheme: Scheme | None = None
) -> ReceivedRequest:
    """A genuine delivery to a source, or one that another scheme has signed."""
    made = signed_headers(scheme or source.scheme, body, source.path, NOW)
    pairs = tuple((name.encode(), value.encode()) for name, value in made.items())
    return request(source.path, (*pairs, *more), body)


def message_of(admitted: Admitted) -> Message:
    assert isinstance(admitted, Message), admitted
    return admitted


def arrival_of(admitted: Admitted) -> Arrival:
    assert isinstance(admitted, Arrival), admitted
    return admitted


def refusal_of(admitted: Admitted) -> Refusal:
    assert isinstance(admitted, Refusal), admitted
    return admitted
