"""Reads the sources anew when a secret's file or `hookmill.toml` changes, or when it is asked to.

No request is dropped: the sources are replaced between two requests. What cannot be read changes
nothing; the log says why.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

import structlog

from hookmill.config.setting_files import TOML_FILE
from hookmill.config.settings import Settings
from hookmill.config.sources import Source
from hookmill.errors import HookmillError, SettingsError

log = structlog.get_logger("receiver")

PERIOD = 2.0
"""Seconds between two looks at the files."""

_State = dict[Path, tuple[int, int, int] | None]


class Reloader:
    """Watches the files that the sources come from. `read` reads the settings and their sources
    anew, `replace` puts those in the place of what was there.
    """

    def __init__(
        self,
        settings: Settings,
        read: Callable[[], tuple[Settings, list[Source]]],
        replace: Callable[[Iterable[Source]], None],
    ) -> None:
        self._read = read
        self._replace = replace
        self._files = files_of(settings)
        self._state = _look_at(self._files)
        self._asked = asyncio.Event()
        self._running: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to watch."""
        self._running = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Stop watching."""
        if self._running is not None:
            self._running.cancel()
            with suppress(asyncio.CancelledError):
                await self._running
            self._running = None

    def ask(self) -> None:
        """Have the sources read anew, whether a file has changed or not."""
        self._asked.set()

    async def _run(self) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(PERIOD):
                    await self._asked.wait()
            was_asked = self._asked.is_set()
            self._asked.clear()
            # In a thread: such files may lie on a disk that answers slowly.
            state = await asyncio.to_thread(_look_at, self._files)
            if was_asked or state != self._state:
                self._state = state
                await self._reload()

    async def _reload(self) -> None:
        try:
            settings, sources = await asyncio.to_thread(self._read)
            if not sources:
                raise SettingsError(["there is no source left"])
        except HookmillError as error:
            log.error("sources not read anew: those there were go on", error=str(error))
        except Exception:  # whatever it is, what there was goes on
            log.exception("sources not read anew: those there were go on")
        else:
            self._replace(sources)
            self._files = files_of(settings)
            # As they were before they were read: what has changed since is to be read again.
            self._state = {path: self._state.get(path) for path in self._files}
            log.info("sources read anew", paths=[source.path for source in sources])


def files_of(settings: Settings) -> set[Path]:
    """Return the files that the sources and their secrets come from."""
    found = {Path(TOML_FILE)}
    for options in settings.sources.values():
        found |= options.files
    return found | {
        Path(value)
        for name, value in os.environ.items()
        if value and name.upper().endswith(("_SIGNING_KEY_FILE", "_WEBHOOK_SECRET_FILE"))
    }


def _look_at(files: Iterable[Path]) -> _State:
    """Say what tells a file from the one that was there before, None where there is none.

    A link that now leads to another file, as Kubernetes changes its secrets, is another file.
    """
    state: _State = {}
    for path in files:
        try:
            found = path.stat()
        except OSError:
            state[path] = None
        else:
            state[path] = (found.st_mtime_ns, found.st_size, found.st_ino)
    return state
