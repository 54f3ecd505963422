"""Looks at the files that the sources come from. What a file holds counts once two looks agree.

So a file that somebody is still writing never counts, and neither does one that is away for a
moment while it is replaced.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from hookmill.config.files import FileLook, look_at


class FileLooks:
    """What was seen of files. The first look at the `files` of the start counts at once, because a
    program has just started with them.
    """

    def __init__(self, files: Iterable[Path]) -> None:
        self._last: dict[Path, FileLook] = {path: look_at(path) for path in files}
        self._counting: dict[Path, FileLook] = dict(self._last)

    def look(self, files: Iterable[Path]) -> bool:
        """Look at these files; return whether other contents count than before."""
        looks = {path: look_at(path) for path in files}
        agreed = {path: look for path, look in looks.items() if self._last.get(path) == look}
        has_changed = any(self._counting.get(path) != look for path, look in agreed.items())
        known = {path: look for path, look in self._counting.items() if path in looks}
        self._counting = known | agreed
        self._last = looks
        return has_changed

    def is_known(self, path: Path) -> bool:
        """Return whether a content of this file counts."""
        return path in self._counting

    def content(self, path: Path) -> FileLook:
        """Return what counts of a file, or what it holds now if nothing does yet."""
        found = self._counting.get(path)
        return look_at(path) if found is None else found
