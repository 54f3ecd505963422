"""What a request that leaves no message is answered with. Values only."""

from __future__ import annotations

from typing import NamedTuple


class Refusal(NamedTuple):
    """Why a request is turned away: the HTTP status, a short code, and a sentence."""

    status: int
    code: str
    detail: str


class Confirmation(NamedTuple):
    """A subscription that its sender wants confirmed, by a GET of a URL whose host was judged."""

    url: str


class Answer(NamedTuple):
    """What a sender gets that asked something beside its deliveries. Nothing is stored for it."""

    status: int = 200
    body: bytes = b""
    content_type: str = "text/plain"
