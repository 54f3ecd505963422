"""What may be shown of stored deliveries: everything but what `redact` in a source's table hides.

What counts is the table in the settings and the note of the receivers in Redis together, because a
command may run where the sources have no tables, or old ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from hookmill.admin.body_paths import Condition
from hookmill.admin.opening import open_stream
from hookmill.config.settings import Settings
from hookmill.errors import HookmillError
from hookmill.handlers import matches_pattern
from hookmill.message import Message
from hookmill.redaction import is_redacted, redacted, redacted_headers
from hookmill.stream.client import Client
from hookmill.stream.heartbeats import PLACE
from hookmill.stream.redactions import Paths, Redactions


class SearchRefusedError(HookmillError):
    """A search asks for a value that is redacted: the answer would tell it."""

    code = "search_refused"


class Showable(msgspec.Struct, frozen=True):
    """What is hidden, by source. `is_known` is false before anybody has looked: then every body is
    hidden whole.
    """

    paths: Mapping[str, Paths] = msgspec.field(default_factory=dict)
    is_known: bool = True

    def of(self, source: str) -> Paths:
        """Return the paths that are hidden of a source."""
        return self.paths.get(source, ())

    def body(self, message: Message) -> bytes:
        """Return as much of a message's body as may be shown."""
        return self.body_of(message.source, message.body, content_type_in(message.header_block))

    def body_of(self, source: str, body: bytes, content_type: str) -> bytes:
        """Return as much of a body as may be shown."""
        if not self.is_known:
            return b"[redacted: it was not looked up what is hidden]" if body else b""
        return redacted(body, content_type, self.of(source))

    def headers(self, message: Message) -> bytes:
        """Return the headers of a message, with hidden values replaced."""
        return self.headers_of(message.source, message.header_block)

    def headers_of(self, source: str, block: bytes) -> bytes:
        """Return packed headers, with hidden values replaced."""
        return redacted_headers(block, self.of(source)) if self.is_known else b""

    def check_where(self, where: Iterable[Condition], source: str | None = None) -> None:
        """Do what `check_search` does, with the paths of conditions."""
        for one in where:
            self.check_search([name for name in one.steps if isinstance(name, str)], source)

    def check_search(self, names: Sequence[str], source: str | None = None) -> None:
        """Raise `SearchRefusedError` if a search for the value behind these names in the body could
        tell what is hidden. `source` is the pattern of the sources that are searched; None: all.
        """
        path = ".".join(names)
        if names and not self.is_known:
            raise SearchRefusedError(
                f"{path}: it cannot be looked up now which paths are hidden, so none is searched"
            )
        for name, paths in sorted(self.paths.items()):
            is_meant = source is None or matches_pattern(source, name)
            if is_meant and is_redacted(names, paths):
                raise SearchRefusedError(
                    f"{path}: source {name} redacts it (or a part of it), so it cannot be searched"
                    "; search another path, or only sources that do not redact it"
                )


NOT_LOOKED_UP = Showable(is_known=False)


async def shown(settings: Settings) -> Showable:
    """Look up what may be shown."""
    async with await open_stream(settings) as client:
        return await shown_by(client, settings)


async def check_where(
    client: Client, where: Iterable[Condition], source: str | None = None
) -> None:
    """Raise `SearchRefusedError` if these conditions could tell what receivers have noted as
    hidden.
    """
    Showable(await Redactions(client).read()).check_where(where, source)


async def shown_by(client: Client, settings: Settings) -> Showable:
    """Do the same with a client that is open. Where the partition with the notes cannot be asked,
    every body and header is hidden.
    """
    if PLACE in client.unseen:
        return NOT_LOOKED_UP
    return Showable(_together(settings, await Redactions(client).read()))


def shown_without_redis(settings: Settings) -> Showable:
    """Return what may be shown by the settings alone, where there is no Redis to ask."""
    return Showable(_together(settings, {}))


def content_type_in(block: bytes) -> str:
    """Return the content type that packed headers name, "" where they name none."""
    for line in block.split(b"\r\n"):
        name, _, value = line.partition(b": ")
        if name.lower() == b"content-type":
            return value.decode("latin-1")
    return ""


def _together(settings: Settings, noted: Mapping[str, Paths]) -> dict[str, Paths]:
    found = {name: options.redact for name, options in settings.sources.items() if options.redact}
    for name, paths in noted.items():
        found[name] = tuple(dict.fromkeys((*found.get(name, ()), *paths)))
    return found
