"""Notes in Redis what is never shown of each source, for commands and consoles that do not have the
sources' tables.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress

from hookmill.config.source_options import SourceOptions
from hookmill.config.sources import Source
from hookmill.errors import StreamUnavailableError
from hookmill.stream.client import Client
from hookmill.stream.redactions import Paths, Redactions
from receiver.background import BackgroundTask

PERIOD = 5.0
"""Seconds between two looks whether Redis has the notes (still)."""


class RedactionNotes:
    """`start` it, tell it when the sources are replaced, `stop` it.

    Where nothing is redacted it looks once, to remove an older note. A note that is there is not
    changed before our own sources change: receivers of the last table may still run.
    """

    def __init__(self, client: Client) -> None:
        self._notes = Redactions(client)
        self._paths: dict[str, Paths] = {}
        self._is_new = False
        self._task = BackgroundTask("redaction", self._look, PERIOD)

    def replace_sources(self, sources: Iterable[Source]) -> None:
        """Note what these sources say from now on."""
        paths = {one.name: paths_of(one) for one in sources}
        if paths != self._paths:
            self._paths, self._is_new = paths, True
            self._task.wake()

    def start(self) -> None:
        """Note it as soon as Redis can be reached, and again where Redis has lost it."""
        self._task.start()

    async def stop(self) -> None:
        """End."""
        await self._task.stop()

    async def _look(self) -> None:
        if not (self._is_new or any(self._paths.values())):
            return
        with suppress(StreamUnavailableError):  # other parts of the receiver say so
            found = await self._notes.read()
            paths = self._paths
            if self._is_new:
                lacks = [name for name, some in paths.items() if found.get(name, ()) != some]
            else:
                lacks = [name for name, some in paths.items() if some and name not in found]
            await self._notes.note({name: paths[name] for name in lacks})
            # The sources may have been replaced meanwhile.
            self._is_new = self._is_new and paths is not self._paths


def paths_of(source: Source) -> Paths:
    """Return what the table of a source says that is hidden."""
    options = source.basis[0] if source.basis else None
    return options.redact if isinstance(options, SourceOptions) else ()
