"""What one worker knows of the pauses of its group: which messages they hold back. No I/O.

`PauseReader` (in `pauses`) reads them when they have changed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec

from hookmill.stream.facts import ALL, Pause

NOT_READ = -1
"""In the place of a version: pauses may be noted although Redis has lost their version."""


class _Copy(msgspec.Struct):
    """The pauses of one partition that are on: their names, by what each of them is about."""

    is_all: bool = False
    handlers: dict[str, str] = {}
    sources: dict[str, str] = {}
    keys: dict[bytes, str] = {}


class KnownPauses:
    """A worker's copy of the pauses in so many partitions. Only the event loop may use it.

    `is_any` says whether anything is paused, `is_all` whether everything is. What is in
    `when_changed` is called after each change.
    """

    def __init__(self, partitions: int) -> None:
        self._copies = [_Copy() for _ in range(partitions)]
        self.versions = dict.fromkeys(range(partitions), NOT_READ)
        """Which version is known of each partition's pauses."""
        self.is_any = False
        self.is_all = False
        self.when_changed: list[Callable[[], None]] = []

    def holds(
        self, partition: int, source: str, key: bytes, handler_names: Iterable[str] = ()
    ) -> str | None:
        """Return the name of the pause that holds back a message of this source, with this ordering
        key (and its source), before a handler of these names; None: it may run.
        """
        copy = self._copies[partition]
        if copy.is_all:
            return ALL
        found = copy.sources.get(source) or (copy.keys.get(key) if key else None)
        if found is None and copy.handlers:
            found = next((copy.handlers[n] for n in handler_names if n in copy.handlers), None)
        return found

    def may_hold(self, handler_names: Iterable[str]) -> bool:
        """Return whether some message of a handler of these names may be held back."""
        return any(
            copy.is_all or copy.sources or copy.keys or not copy.handlers.keys().isdisjoint(names)
            for names in [tuple(handler_names)]
            for copy in self._copies
        )

    def note(self, partition: int, version: int, pauses: Iterable[Pause]) -> None:
        """Replace what is known of a partition."""
        copy = self._copies[partition] = _Copy()
        self.versions[partition] = version
        for pause in pauses:
            if pause.is_ending:
                continue
            if pause.kind == "handler":
                copy.handlers.update(dict.fromkeys((pause.value, *pause.names), pause.name))
            elif pause.kind == "source":
                copy.sources[pause.value] = pause.name
            elif pause.kind == "key":
                copy.keys[_raw_key(pause.source, pause.value)] = pause.name
            else:
                copy.is_all = True

    def noted(self) -> None:
        """End a change: see what it means, and tell who waits for it."""
        self.is_all = any(copy.is_all for copy in self._copies)
        self.is_any = self.is_all or any(
            copy.handlers or copy.sources or copy.keys for copy in self._copies
        )
        for changed in self.when_changed:
            changed()


def _raw_key(source: str, key: str) -> bytes:
    return f"{source}:{key}".encode("utf-8", "surrogateescape")
