"""The refused deliveries that receivers have kept, with the reason and what would have changed it.

Everything is returned as data. Nothing here can make a message of one.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from hookmill.admin.opening import open_stream
from hookmill.admin.redactions import Showable, content_type_in, shown_by
from hookmill.admin.units import moment
from hookmill.config.settings import Settings
from hookmill.errors import HookmillError
from hookmill.handlers import matches_pattern
from hookmill.stream.client import Client
from hookmill.stream.refused import Kept, RefusedDeliveries


class NoSuchRefusedError(HookmillError):
    """No refused delivery with this ID is kept (any more)."""

    code = "no_such_refused_delivery"


class Refusals:
    """What is kept, and what of it may be shown; `opened` makes it."""

    def __init__(self, client: Client, shown: Showable) -> None:
        self._kept = RefusedDeliveries(client)
        self._shown = shown

    async def newest_first(self, source: str | None = None) -> list[dict[str, Any]]:
        """Return those of the sources that fit a pattern, without headers, body and explanation."""
        places = [
            place
            for place in reversed(await self._kept.places())
            if source is None or matches_pattern(source, place[2])
        ]
        found = []
        for start in range(0, len(places), _PAGE):
            found += await self._kept.get(places[start : start + _PAGE])
        return [describe(one) for one in found]

    async def find(self, kept_id: str) -> dict[str, Any]:
        """Return one whole. Raises `NoSuchRefusedError`."""
        places = [place for place in await self._kept.places() if place[0] == kept_id]
        if not (found := await self._kept.get(places)):
            raise NoSuchRefusedError(
                f"{kept_id}: no refused delivery with this ID is kept (any more); "
                "`hookmill refused list` shows those that are"
            )
        return describe(found[0], self._shown)


_PAGE = 20
"""How many are read in one step: each can have 100 KB."""


@asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[Refusals]:
    """Open what is kept. Raises `StreamUnavailableError`."""
    async with await open_stream(settings) as client:
        yield Refusals(client, await shown_by(client, settings))


def describe(kept: Kept, shown: Showable | None = None) -> dict[str, Any]:
    """Return what is known of a refused delivery as JSON-ready values; with what is `shown`, also
    its headers, its body and the explanation.
    """
    one = kept.delivery
    seen: dict[str, Any] = {
        "id": kept.id,
        "at": moment(kept.at_ms),
        "source": one.source,
        "status": one.status,
        "code": one.code,
        "detail": one.detail,
        "cause": one.cause,
        "bytes": one.size,
        "would_match_if": list(one.hints),
    }
    if shown is None:
        return seen
    body = shown.body_of(one.source, one.body, content_type_in(one.header_block))
    return seen | {
        "explanation": list(one.explanation),
        "target": one.target,
        "headers": _text(shown.headers_of(one.source, one.header_block)),
        "body": _text(body),
        "is_cut": len(one.body) < one.size,
    }


def _text(data: bytes) -> str:
    return data.decode("utf-8", "backslashreplace")
