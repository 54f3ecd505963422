"""Looks at the files of the sources, and has the sources replaced when these have changed.

No request is dropped, because the sources are replaced between two requests. A secret that was
withdrawn stops verifying after two looks.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from hookmill.config.setting_files import TOML_FILE
from hookmill.config.settings import Settings
from hookmill.config.sources import Source
from receiver.background import BackgroundTask
from receiver.file_looks import FileLooks
from receiver.source_table import Reloaded, Served, SourceTable

PERIOD = 2.0
"""Seconds between two looks at the files."""

SECOND_LOOK = 0.2
"""Seconds until the second look, where somebody asks for it."""

Replace = Callable[[Served], None]
"""Puts what is served in place of what was served before."""


class Reloader:
    """Watches the files that the sources come from. `replace` puts other sources in place of those
    that are served. `clock` is Unix time in seconds: a secret can be valid for a time only.
    `on_load` is told of each load whether all was well.
    """

    def __init__(
        self,
        settings: Settings,
        sources: Iterable[Source],
        replace: Replace,
        clock: Callable[[], float] = time.time,
        on_load: Callable[[bool], None] = lambda _: None,
    ) -> None:
        self._table = SourceTable(settings, sources)
        self._replace = replace
        self._clock = clock
        self._on_load = on_load
        self._files = files_of(settings)
        self._looks = FileLooks(self._files)
        self._is_first = True
        self._served: Served | None = None
        self._is_asked = False
        self._task = BackgroundTask("reloader", self._look_and_reload, PERIOD)

    def start(self) -> None:
        """Start watching."""
        self._task.start()

    async def stop(self) -> None:
        """Stop watching."""
        await self._task.stop()

    def ask(self) -> None:
        """Load the sources again soon, even if no file has changed."""
        self._is_asked = True
        self._task.wake()

    def serve(self) -> None:
        """Have those sources served that have a secret which is valid now."""
        served = self._table.served_at(self._clock())
        if served != self._served:
            self._served = served
            self._replace(served)

    async def _look_and_reload(self) -> None:
        is_asked, self._is_asked = self._is_asked, False
        has_changed = await self._look(twice=is_asked)
        # At first without a change, because a file may have changed since the start read it.
        if has_changed or is_asked or self._is_first:
            self._is_first = False
            reloaded = await self._load(remake=is_asked)
            if reloaded.files and is_asked and await self._look(twice=True):
                reloaded = await self._load(remake=True)
            self._table.take(reloaded, is_asked=is_asked)
            self._on_load(not self._table.has_faults)
        self.serve()

    async def _look(self, *, twice: bool) -> bool:
        # In a thread, because such files may lie on a slow disk.
        has_changed = await asyncio.to_thread(self._looks.look, self._files)
        if twice:
            await asyncio.sleep(SECOND_LOOK)
            has_changed |= await asyncio.to_thread(self._looks.look, self._files)
        return has_changed

    async def _load(self, *, remake: bool) -> Reloaded:
        reloaded = await asyncio.to_thread(self._table.load, self._looks, remake=remake)
        self._files = files_of(reloaded.settings) | reloaded.files
        return reloaded


def files_of(settings: Settings) -> set[Path]:
    """Return the files that the sources and their secrets are read from."""
    found = {Path(TOML_FILE)}
    for options in settings.sources.values():
        found |= options.files
    return found | {
        Path(value)
        for name, value in os.environ.items()
        if value and name.upper().endswith(("_SIGNING_KEY_FILE", "_WEBHOOK_SECRET_FILE"))
    }
