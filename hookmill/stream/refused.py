"""The refused deliveries that receivers keep for a look: few, small, and for an hour.

They lie under keys of their own, which expire. Nothing makes a message of one again.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from hookmill.stream.client import Client, checked
from hookmill.stream.heartbeats import PLACE
from hookmill.stream.script_runner import Call, ScriptRunner

KEPT_FOR = 3600.0
"""Seconds for which one is kept."""

PAUSE = 10.0
"""Seconds between two of a source at least."""

GROWS_AFTER = 5
"""After so many of a source, the time to its next one grows by a `PAUSE`."""

MOST = 1000
"""The most that may be kept."""


class RefusedDelivery(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A refused delivery as it is kept: without credentials and redacted fields, its signature
    shortened, the body cut. `size` is how many bytes the body had. `explanation` has the lines of
    `hookmill verify`, and `hints` those of them that say what would have changed the verdict.
    """

    source: str
    status: int
    code: str
    detail: str
    cause: str = ""
    target: str = ""
    header_block: bytes = b""
    body: bytes = b""
    size: int = 0
    explanation: tuple[str, ...] = ()
    hints: tuple[str, ...] = ()


class Kept(NamedTuple):
    """A refused delivery with its ID, and when it came by Redis' clock (Unix milliseconds)."""

    id: str
    at_ms: int
    delivery: RefusedDelivery


class RefusedPlace(NamedTuple):
    """A place that was asked for: its ID; or "" and after how many seconds to ask again."""

    id: str
    wait: float


_write = msgspec.msgpack.Encoder().encode
_read = msgspec.msgpack.Decoder(RefusedDelivery).decode


class RefusedDeliveries:
    """What is kept. Methods raise `StreamUnavailableError`."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._key = client.partitions[PLACE].refused
        self._scripts = ScriptRunner(client, drains=False)

    async def claim(self, source: str, most: int) -> RefusedPlace:
        """Ask for a place for a delivery of this source, of `most` places in all."""
        args = [source, most, int(KEPT_FOR * 1000), int(PAUSE * 1000), GROWS_AFTER]
        is_given, found = await self._scripts.run("claim_refused", Call(PLACE, [self._key], args))
        return (
            RefusedPlace(found.decode(), 0.0) if is_given else RefusedPlace("", int(found) / 1000)
        )

    async def put(self, place: RefusedPlace, delivery: RefusedDelivery) -> None:
        """Keep a delivery at a place that was given."""
        key, kept_ms = self._of(place.id), int(KEPT_FOR * 1000)
        await self._client.execute(PLACE, "SET", key, _write(delivery), "PX", kept_ms)

    async def places(self) -> list[tuple[str, int, str]]:
        """Return the ID, the time and the source of each place, the oldest first. What is kept
        there may not be there yet, or not any more.
        """
        flat = await self._client.execute(PLACE, "HGETALL", self._key)
        found = []
        for member, at_ms in zip(flat[::2], flat[1::2], strict=True):
            kept_id, _, source = member.decode("utf-8", "replace").partition(" ")
            found.append((kept_id, int(at_ms), source))
        return sorted(found, key=lambda place: order_of(place[0]))

    async def get(self, places: list[tuple[str, int, str]]) -> list[Kept]:
        """Return what is kept at these places, as far as it is there and can be read."""
        commands = [("GET", self._of(kept_id)) for kept_id, _, _ in places]
        replies = await self._client.ask(PLACE, *commands) if commands else []
        found = []
        for (kept_id, at_ms, _), reply in zip(places, replies, strict=True):
            if (data := checked(reply)) is not None and (delivery := _delivery_of(data)):
                found.append(Kept(kept_id, at_ms, delivery))
        return found

    def _of(self, kept_id: str) -> str:
        return f"{self._key}:{kept_id}"


def order_of(kept_id: str) -> tuple[int, int]:
    """Return by what IDs are sorted, the oldest first."""
    ms, _, number = kept_id.partition("-")
    return (int(ms), int(number)) if ms.isdecimal() and number.isdecimal() else (0, 0)


def _delivery_of(data: bytes) -> RefusedDelivery | None:
    try:
        return _read(data)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
