"""Reads a lock: the packages of a requirements file with their exact versions and hashes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from packaging.markers import Marker
from packaging.utils import canonicalize_name

FOLDER = Path(__file__).parent

_LINE = re.compile(r"([A-Za-z0-9._-]+)==([^ ;]+)(?: ; (.+))?")
_HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")


class Locked(NamedTuple):
    """A package of a lock.

    `name` is normalised. `marker` says where it is installed; None: everywhere. `hashes` are the
    SHA-256 hashes, in hex, of the files that may be installed.
    """

    name: str
    version: str
    marker: Marker | None
    hashes: tuple[str, ...]


def read_lock(path: Path) -> list[Locked]:
    """Return the packages of a lock, in its order. Raises `ValueError` for any other line."""
    text = path.read_text(encoding="utf-8").replace("\\\n", " ")
    return [_locked(line, path) for line in text.splitlines() if line.strip()]


def _locked(line: str, path: Path) -> Locked:
    requirement, *options = re.split(r" +(?=--)", line.strip())
    match = _LINE.fullmatch(requirement.strip())
    hashes = [_HASH.fullmatch(option.strip()) for option in options]
    if match is None or not hashes or None in hashes:
        raise ValueError(f"{path.name}: {line[:100]!r} is not NAME==VERSION with SHA-256 hashes")
    name, version, marker = match.groups()
    found = tuple(one[1] for one in hashes if one)
    return Locked(canonicalize_name(name), version, Marker(marker) if marker else None, found)
