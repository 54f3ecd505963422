"""Loads the sources again when a secret's file or `hookmill.toml` changes, or when it is asked to.

No request is dropped, because the sources are replaced between two requests. If they cannot be
loaded, the old ones stay in use and the log says why.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterable
from pathlib import Path

import structlog

from hookmill.config.setting_files import TOML_FILE
from hookmill.config.settings import Settings
from hookmill.config.sources import Source
from hookmill.errors import HookmillError, SettingsError
from receiver.background import BackgroundTask

log = structlog.get_logger("receiver")

PERIOD = 2.0
"""Seconds between two looks at the files."""

_Versions = dict[Path, tuple[int, int, int] | None]


class Reloader:
    """Watches the files that the sources come from.

    `load` reads the settings and returns them with their sources; `replace` puts these sources in
    place of the old ones.
    """

    def __init__(
        self,
        settings: Settings,
        load: Callable[[], tuple[Settings, list[Source]]],
        replace: Callable[[Iterable[Source]], None],
    ) -> None:
        self._load = load
        self._replace = replace
        self._files = files_of(settings)
        self._versions = _versions_of(self._files)
        self._is_asked = False
        self._task = BackgroundTask("reloader", self._reload_if_needed, PERIOD)

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

    async def _reload_if_needed(self) -> None:
        is_asked, self._is_asked = self._is_asked, False
        # In a thread, because such files may lie on a slow disk.
        versions = await asyncio.to_thread(_versions_of, self._files)
        if is_asked or versions != self._versions:
            self._versions = versions
            await self._reload()

    async def _reload(self) -> None:
        try:
            settings, sources = await asyncio.to_thread(self._load)
            if not sources:
                raise SettingsError(["there is no source left"])
        except HookmillError as error:
            log.error("sources not reloaded, the old ones stay in use", error=str(error))
        except Exception:  # whatever it is, the old sources stay in use
            log.exception("sources not reloaded, the old ones stay in use")
        else:
            self._replace(sources)
            self._files = files_of(settings)
            # The versions from before the loading: a file that has changed since is loaded again.
            self._versions = {path: self._versions.get(path) for path in self._files}
            log.info("sources reloaded", paths=[source.path for source in sources])


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


def _versions_of(files: Iterable[Path]) -> _Versions:
    """Return for each file what changes when the file does; None if there is no file.

    The inode is part of it, because Kubernetes changes a secret by pointing a link to a new file.
    """
    versions: _Versions = {}
    for path in files:
        try:
            found = path.stat()
        except OSError:
            versions[path] = None
        else:
            versions[path] = (found.st_mtime_ns, found.st_size, found.st_ino)
    return versions
