"""Which published advisories concern a package version: OSV's records, as plain values. No I/O.

The format is the OSV schema, in which PyPI's advisories are published.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from locks.lockfile import Locked


class Found(NamedTuple):
    """An advisory that concerns a locked package. `fixed` are the versions without it."""

    package: Locked
    advisory: str
    summary: str
    fixed: tuple[str, ...]


def concerns(record: Mapping[str, Any], package: Locked) -> bool:
    """Return whether a record concerns the version of a package.

    Raises `ValueError`, `KeyError`, `TypeError` or `AttributeError` for what is no record.
    """
    affected = [one for one in record["affected"] if _names(one, package)]
    return any(_has_version(one, package.version) for one in affected)


def found(record: Mapping[str, Any], package: Locked) -> Found | None:
    """Return what a record says of a package that it concerns; None if it was withdrawn.

    Raises the errors of `concerns`.
    """
    if record.get("withdrawn"):
        return None
    affected = [one for one in record.get("affected", []) if _names(one, package)]
    fixed = {event["fixed"] for one in affected for event in _events(one) if "fixed" in event}
    names = " ".join([record["id"], *record.get("aliases", [])])
    said = record.get("summary") or record.get("details") or "no description"
    return Found(package, _shown(names), _shown(said), tuple(map(_shown, sorted(fixed))))


def _shown(text: str) -> str:
    """Return the first line of a text, without what a terminal would obey."""
    line = text.partition("\n")[0][:200]
    return "".join(character if character.isprintable() else "?" for character in line)


def packages_of(record: Mapping[str, Any]) -> Iterable[str]:
    """Return the normalised names of PyPI's packages that a record is about."""
    for one in record.get("affected", []):
        about = one.get("package", {})
        if about.get("ecosystem") == "PyPI":
            yield canonicalize_name(about["name"])


def _names(affected: Mapping[str, Any], package: Locked) -> bool:
    about = affected.get("package", {})
    return about.get("ecosystem") == "PyPI" and canonicalize_name(about["name"]) == package.name


def _events(affected: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return the events of the version ranges, in the order of their versions."""
    ranges = [one for one in affected.get("ranges", []) if one["type"] == "ECOSYSTEM"]
    return [event for one in ranges for event in one["events"]]


def _has_version(affected: Mapping[str, Any], version: str) -> bool:
    here = Version(version)
    if any(_is_same(text, here) for text in affected.get("versions", [])):
        return True
    return any(
        _is_in(one["events"], here)
        for one in affected.get("ranges", [])
        if one["type"] == "ECOSYSTEM"
    )


def _is_same(text: str, here: Version) -> bool:
    try:
        return Version(text) == here  # "1.0" and "1.0.0" are the same version
    except InvalidVersion:
        return False  # of a release older than the rules for versions; none of ours is


def _is_in(events: list[dict[str, str]], here: Version) -> bool:
    """Return whether a range has a version. Its events change the state from there on."""
    is_affected = False
    for kind, at in sorted(_timeline(events), key=lambda one: one[1]):
        if at > here or (kind == "last_affected" and at == here):
            break
        is_affected = kind == "introduced"
    return is_affected


def _timeline(events: list[dict[str, str]]) -> Iterable[tuple[str, Version]]:
    for event in events:
        for kind, text in event.items():
            if kind not in {"introduced", "fixed", "last_affected"}:
                continue  # "limit" bounds commits only
            try:
                yield kind, Version(text)  # "0" is before every version
            except InvalidVersion as error:
                raise ValueError(f"{text!r} is not a version") from error
