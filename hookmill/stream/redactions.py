"""What is never shown of the messages of each source, noted in Redis by the receivers.

Commands and consoles run elsewhere, often without the table of a source. What lies in Redis must be
hidden there as well.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from hookmill.redaction import EVERYTHING
from hookmill.stream.client import Client, checked
from hookmill.stream.heartbeats import PLACE

Paths = tuple[str, ...]

_read = msgspec.json.Decoder(Paths).decode


class Redactions:
    """The notes in Redis. Methods raise `StreamUnavailableError`."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._key = client.partitions[PLACE].redact

    async def read(self) -> dict[str, Paths]:
        """Return the paths of each source that has some. Of a note that cannot be read, all."""
        found = await self._client.execute(PLACE, "HGETALL", self._key)
        return {
            name.decode("utf-8", "replace"): _paths_of(text)
            for name, text in zip(found[::2], found[1::2], strict=True)
        }

    async def note(self, paths: Mapping[str, Paths]) -> None:
        """Note what is hidden of these sources. Where that is nothing, the note is removed."""
        kept = [part for name, some in paths.items() if some for part in (name, _text(some))]
        gone = [name for name, some in paths.items() if not some]
        commands = [("HSET", self._key, *kept)] if kept else []
        commands += [("HDEL", self._key, *gone)] if gone else []
        for reply in await self._client.ask(PLACE, *commands) if commands else ():
            checked(reply)


def _text(paths: Paths) -> bytes:
    return msgspec.json.encode(paths)


def _paths_of(text: bytes) -> Paths:
    try:
        return _read(text)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return EVERYTHING
