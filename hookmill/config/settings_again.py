"""Reads the settings of a running receiver again, source by source.

A table that is faulty stays as it was, and so do all tables if `hookmill.toml` cannot be read. The
secrets are no part of this: `load_source` reads them, with the tables that this returns.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from pydantic import ValidationError

from hookmill.config.setting_faults import field_of, limit_faults, toml_faults, value_fault
from hookmill.config.setting_files import read_toml, secrets_from_files
from hookmill.config.settings import Settings, settings_with, variables
from hookmill.config.source_options import SourceOptions, spec_of
from hookmill.config.source_secrets import SETTINGS_OF
from hookmill.config.sources import faults_of_table, names_of

_Faults = defaultdict[str, list[str]]
"""What is wrong, by the name of the source that it concerns; "" if it concerns all of them."""


class SettingsAgain(NamedTuple):
    """The settings with those tables that can be used, old or new. `faults` say what is wrong, by
    the name of the source, "" for all of them. `files` are files of new tables that nobody has
    looked at yet: those tables have to wait.
    """

    settings: Settings
    faults: Mapping[str, tuple[str, ...]]
    files: frozenset[Path] = frozenset()


def load_again(before: Settings, is_known: Callable[[Path], bool]) -> SettingsAgain:
    """Read the settings again. `is_known` tells whether a file has been looked at. Raises nothing
    that a file can cause.
    """
    general: list[str] = []
    toml = read_toml(general)
    general += toml_faults(toml, variables())
    by_source: _Faults = defaultdict(list)
    read = None if general else _validated(toml, by_source, general)
    if read is None:
        return SettingsAgain(before, {"": tuple(general)})
    waiting: set[Path] = set()
    tables = dict(read.sources)
    for name in {*SETTINGS_OF, *tables, *by_source}:
        options = read.options_of(name)
        if not by_source[name]:
            _judge_table(name, read, by_source)
        if by_source[name] and options == before.options_of(name):
            # Not this table has changed, but a setting that it needs.
            return SettingsAgain(before, {"": tuple(by_source[name])})
        unknown = {file for file in options.files if not is_known(file)}
        waiting |= unknown
        if by_source.get(name) or unknown:
            _take_old(name, tables, before)
    _settle_paths(tables, before, read, by_source)
    settings = read.model_copy(update={"sources": MappingProxyType(tables)})
    faults = {name: tuple(found) for name, found in by_source.items() if found}
    if not names_of(settings):
        return SettingsAgain(before, faults | {"": ("there is no source left",)})
    return SettingsAgain(settings, faults, frozenset(waiting))


def _validated(toml: Mapping[str, Any], by_source: _Faults, general: list[str]) -> Settings | None:
    """Return the settings without the tables that have a wrong value. None: a value that is no
    source's is wrong.
    """
    # What is wrong with their files is found where a source reads its secrets.
    secrets = secrets_from_files([])
    while True:
        try:
            settings = settings_with(toml, secrets)
        except ValidationError as error:
            tables = toml.get("sources", {})
            wrong = _by_table(error, tables)
            for name, faults in wrong.items():
                by_source[name] += faults
            if "" in wrong:
                general += by_source.pop("")
                return None
            left = {name: table for name, table in tables.items() if name not in wrong}
            toml = {**toml, "sources": left}
        else:
            general += limit_faults(settings)
            return None if general else settings


def _by_table(error: ValidationError, tables: Mapping[str, Any]) -> _Faults:
    found: _Faults = defaultdict(list)
    for each in error.errors():
        place = [str(part) for part in each["loc"]]
        is_of_table = field_of(place[0], variables()) == "sources" and place[1:2]
        name = place[1] if is_of_table and place[1] in tables else ""
        found[name].append(value_fault(dict(each), {}, variables()))
    return found


def _judge_table(name: str, read: Settings, by_source: _Faults) -> None:
    """Note what is wrong with a table whose values are each right by themselves. What a source
    needs beyond that is judged only if it is switched on, as at the start.
    """
    try:
        spec = spec_of(name, read.options_of(name))
    except ValueError as error:
        by_source[name] += str(error).splitlines()
        return
    if name in names_of(read):
        by_source[name] += [
            f"sources.{name}: {fault}" for fault in faults_of_table(name, spec, read)
        ]


def _take_old(name: str, tables: dict[str, SourceOptions], before: Settings) -> None:
    if name in before.sources:
        tables[name] = before.sources[name]
    else:
        tables.pop(name, None)


def _settle_paths(
    tables: dict[str, SourceOptions], before: Settings, read: Settings, by_source: _Faults
) -> None:
    """Let the sources that have a path keep it: the table of another one that wants it is faulty.

    This ends, because each step gives back one changed table, and the old ones share no path.
    """
    while True:
        settings = read.model_copy(update={"sources": tables})
        holders: dict[str, str] = {}
        names = sorted(
            {*SETTINGS_OF, *tables},
            key=lambda name: (settings.options_of(name) != before.options_of(name), name),
        )
        for name in names:
            path = settings.path_of(name)
            other = holders.setdefault(path, name)
            if other != name:
                by_source[name].append(
                    f"sources.{other} and sources.{name} share {path}: give one another path"
                )
                _take_old(name, tables, before)
                break
        else:
            return
