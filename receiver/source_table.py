"""The sources of a running receiver, each with what it was made from, replaced one by one.

A fault in the table or in the secrets of one source changes nothing for the others. A source
without a usable secret keeps its path, and its deliveries get 503 until it has one again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import structlog

from hookmill.config.files import as_seen
from hookmill.config.settings import Settings
from hookmill.config.settings_again import load_again
from hookmill.config.sources import LoadedSource, Source, load_source, names_of
from hookmill.signatures import Secret
from receiver.file_looks import FileLooks

log = structlog.get_logger("receiver")

NO_TIME = "the time of each of its secrets has ended, or has not begun"


class Reloaded(NamedTuple):
    """What the files say now: settings, sources by name, and what is wrong. `files` are files that
    have to be looked at before a new table can be used.
    """

    settings: Settings
    sources: Mapping[str, LoadedSource]
    faults: Mapping[str, tuple[str, ...]]
    files: frozenset[Path]


class Served(NamedTuple):
    """The sources that take deliveries now, the paths of those without a usable secret with their
    names, and how many usable secrets each source has.
    """

    sources: tuple[Source, ...]
    without_secret: Mapping[str, str]
    usable: Mapping[str, int]


class SourceTable:
    """The sources, beginning with those of the start. `load` runs in a thread; only the event loop
    calls the other methods.
    """

    def __init__(self, settings: Settings, sources: Iterable[Source]) -> None:
        self.settings = settings
        self._sources = {one.name: LoadedSource(one.name, one.path, one, ()) for one in sources}
        self._faults: Mapping[str, tuple[str, ...]] = {}
        self._without_secret: set[str] = set()

    @property
    def has_faults(self) -> bool:
        """Whether something was wrong when the sources were last loaded."""
        return bool(self._faults)

    def load(self, looks: FileLooks, *, remake: bool = False) -> Reloaded:
        """Read settings and secrets as they were looked at. A source that was made from the same is
        kept, unless `remake` is true.
        """
        with as_seen(looks.content):
            again = load_again(self.settings, looks.is_known)
            sources = {
                name: self._load(name, again.settings, remake=remake)
                for name in names_of(again.settings)
            }
        faults = dict(again.faults)
        for name, loaded in sources.items():
            if loaded.faults:
                faults[name] = (*faults.get(name, ()), *loaded.faults)
        return Reloaded(again.settings, sources, faults, again.files)

    def _load(self, name: str, settings: Settings, *, remake: bool) -> LoadedSource:
        known = self._sources.get(name)
        before = known.source if known is not None else None
        try:
            loaded = load_source(name, settings, before)
        except Exception:
            # Without its secrets, because nothing is known of them.
            log.exception("a source cannot be loaded", source=name)
            return LoadedSource(
                name, settings.path_of(name), None, ("internal error, see the log",)
            )
        made = loaded.source
        if remake or before is None or made is None or made.basis != before.basis:
            return loaded
        return loaded._replace(source=before)

    def take(self, reloaded: Reloaded, *, is_asked: bool = False) -> None:
        """Put what was loaded in place of what was there, and log what has changed."""
        for name, faults in sorted(reloaded.faults.items()):
            if is_asked or faults != self._faults.get(name):
                self._log_faults(name, "; ".join(faults))
        before, self._sources = self._sources, dict(reloaded.sources)
        for name, old in before.items():
            new = self._sources.get(name)
            left = {secret.text for secret in _secrets(new)}
            for secret in _secrets(old):
                if secret.text not in left:
                    log.info("secret withdrawn", source=name, secret=secret.label)
        has_changed = {name: one.source for name, one in before.items()} != {
            name: one.source for name, one in self._sources.items()
        }
        self.settings, self._faults = reloaded.settings, reloaded.faults
        if (has_changed or is_asked) and "" not in reloaded.faults:
            log.info("sources reloaded", paths=[one.path for one in self._sources.values()])

    def served_at(self, now: float) -> Served:
        """Return what is served at a Unix time, and log which source has lost its last usable
        secret, or has one again.
        """
        usable = {
            name: one.source.usable_at(now) if one.source is not None else 0
            for name, one in self._sources.items()
        }
        without = {name for name, number in usable.items() if not number}
        for name in sorted(without - self._without_secret):
            why = "; ".join(self._sources[name].faults) or NO_TIME
            log.error("no usable secret, deliveries get 503", source=name, error=why)
        for name in sorted((self._without_secret - without) & usable.keys()):
            log.info("a usable secret again", source=name)
        self._without_secret = without
        return Served(
            tuple(
                one.source
                for name, one in self._sources.items()
                if one.source is not None and name not in without
            ),
            {self._sources[name].path: name for name in sorted(without)},
            usable,
        )

    @staticmethod
    def _log_faults(name: str, error: str) -> None:
        if name:
            log.error("a source has a fault", source=name, error=error)
        else:
            log.error("sources not reloaded, the old ones stay in use", error=error)


def _secrets(loaded: LoadedSource | None) -> tuple[Secret, ...]:
    source = loaded.source if loaded is not None else None
    return source.secrets if source is not None else ()
