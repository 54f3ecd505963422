"""What was set aside in the spool: look at it, let it be drained again, or drop it.

It opens the spool's file itself, also while receivers have it open. It needs no Redis.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import msgspec

from hookmill.admin.redactions import Showable
from hookmill.config.settings import Settings
from hookmill.errors import HookmillError, SettingsError
from hookmill.runtime.spool_file import SetAside, SpoolError, SpoolFile


class NoSuchRowError(HookmillError):
    """No message with this position is set aside in the spool."""

    code = "no_such_row"


@contextmanager
def opened(settings: Settings) -> Iterator[SpoolFile]:
    """Open the spool of the settings.

    Raises `SettingsError` if there is none, and `SpoolError` if its file cannot be used.
    """
    path = settings.spool
    if path is None:
        raise SettingsError(["HOOKMILL_SPOOL is not set: give the spool file of the receivers"])
    if not path.exists():
        raise SpoolError(f"{path}: there is no such file, so no receiver has used it yet")
    file = SpoolFile(path, settings.spool_limit)
    try:
        file.open()
        yield file
    except (sqlite3.Error, OSError) as error:
        raise SpoolError(f"{path}: {error}") from None
    finally:
        file.close()


def describe(one: SetAside) -> dict[str, Any]:
    """Return what is known of a message that was set aside, as JSON-ready values."""
    moment = datetime.fromtimestamp(one.since_ms / 1000, UTC).isoformat(timespec="milliseconds")
    return {"id": one.position, "since": moment, "bytes": one.size, "reason": one.reason}


def find(file: SpoolFile, position: int, shown: Showable) -> dict[str, Any]:
    """Return one message whole: what `describe` says, and its content.

    `content` is the row as far as MessagePack can be read, else its bytes as text. It is hidden
    where any source redacts something, because it is not known what of the row that is. Raises
    `NoSuchRowError`.
    """
    found = [one for one in file.all_set_aside() if one.position == position]
    row = file.row_set_aside(position)
    if not found or row is None:
        raise NoSuchRowError(f"no message {position} is set aside in {file.path}")
    hidden = f"[redacted: {len(row)} bytes, because a source has redact in its table]"
    return describe(found[0]) | {"content": hidden if shown.paths else _content(row)}


def positions(file: SpoolFile, given: Sequence[int] | None) -> list[int]:
    """Return the given positions, each once; None stands for all that are set aside now.

    Raises `NoSuchRowError` if one of them is not there, so that nothing is done by halves.
    """
    there = [one.position for one in file.all_set_aside()]
    if given is None:
        return there
    if missing := sorted(set(given) - set(there)):
        names = ", ".join(str(position) for position in missing)
        raise NoSuchRowError(f"not set aside in {file.path}: {names}")
    return list(dict.fromkeys(given))


def _content(row: bytes) -> Any:
    try:
        return _readable(msgspec.msgpack.decode(row))
    except (msgspec.DecodeError, RecursionError):
        return _text(row)


def _readable(value: Any) -> Any:
    """Turn what MessagePack holds into what JSON can hold."""
    if isinstance(value, dict):
        return {str(_readable(key)): _readable(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_readable(inner) for inner in value]
    if isinstance(value, bytes):
        return _text(value)
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def _text(data: bytes) -> str:
    return data.decode("utf-8", "backslashreplace")
