"""An HTTP request and its outcome, as plain values. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class HttpRequest(NamedTuple):
    """A request to make. `target` is the path with the query, exactly as it is sent."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes = b""

    def __repr__(self) -> str:
        return f"HttpRequest({self.method})"  # headers and target may contain secrets


class HttpResponse(NamedTuple):
    """A server's response.

    `body` is complete where the caller needs it, otherwise its beginning. `may_be_duplicate`: an
    earlier attempt of the same request may already have taken effect.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    may_be_duplicate: bool = False


class NoResponse(NamedTuple):
    """An attempt without a usable response.

    `may_have_arrived`: the server may have received the whole request. `is_final`: another attempt
    would end the same way. `is_refused`: the address may not be used (`only_public`).
    """

    reason: str
    may_have_arrived: bool = True
    is_final: bool = False
    is_refused: bool = False
