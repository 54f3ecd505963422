"""Reads the files that settings and secrets stand in: `hookmill.toml`, and a file for each secret.

At the start of a program a file is read as it is. Later, `look_at` reads it without ever waiting,
and within `as_seen` a program gets the contents that were seen before, instead of the files' own.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import BinaryIO, NamedTuple

LARGEST = 1024 * 1024
"""Bytes that such a file may have."""


class UnreadableError(Exception):
    """A file cannot be read. `name` is the kind of the error, `reason` says it in words."""

    def __init__(self, path: Path, name: str, reason: str) -> None:
        super().__init__(f"{path} cannot be read: {name}")
        self.name = name
        self.reason = reason

    @property
    def is_missing(self) -> bool:
        """Whether there is no such file."""
        return self.name == FileNotFoundError.__name__


class NotRegularError(OSError):
    """What is there is no regular file: a pipe, a device or a socket."""


class TooLargeError(OSError):
    """The file has more than `LARGEST` bytes."""


class FileLook(NamedTuple):
    """What a look at a file has found: its content, or why it cannot be read. Two looks that found
    the same are equal.
    """

    content: bytes = b""
    name: str = ""
    reason: str = ""


ReadSeen = Callable[[Path], FileLook]
"""Returns what was seen of a file."""

_seen: ContextVar[ReadSeen | None] = ContextVar("seen", default=None)

_from_pipes: dict[Path, bytes] = {}
"""What was read from pipes and the like: they give their content only once."""


@contextmanager
def as_seen(read: ReadSeen) -> Iterator[None]:
    """Within this block `read_bytes` and `read_text` return what `read` knows of a file."""
    token = _seen.set(read)
    try:
        yield
    finally:
        _seen.reset(token)


def read_bytes(path: Path) -> bytes:
    """Return a file's content. Raises `UnreadableError`."""
    read = _seen.get()
    look = read(path) if read is not None else _look(path, _read_and_wait)
    if look.name:
        raise UnreadableError(path, look.name, look.reason)
    return look.content


def read_text(path: Path) -> str:
    """Return the text of a file in UTF-8, without a mark of the byte order before it. Raises
    `UnreadableError`.
    """
    try:
        return read_bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UnreadableError(path, type(error).__name__, str(error)) from None


def look_at(path: Path) -> FileLook:
    """Return what a file holds now. Never waits: what is no regular file counts as unreadable,
    unless it is a pipe that was read at the start.
    """
    return _look(path, _read_at_once)


def _look(path: Path, read: Callable[[Path], bytes]) -> FileLook:
    try:
        return FileLook(read(path))
    except OSError as error:
        return FileLook(b"", type(error).__name__, error.strerror or str(error))
    except ValueError as error:  # a path with a NUL character
        return FileLook(b"", type(error).__name__, str(error))


def _read_and_wait(path: Path) -> bytes:
    if path in _from_pipes and not stat.S_ISREG(path.stat().st_mode):
        return _from_pipes[path]
    with path.open("rb") as file:
        content = _whole(file)
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            _from_pipes[path] = content
    return content


def _read_at_once(path: Path) -> bytes:
    # Looked at before it is opened, because to open a pipe or a device can have effects.
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode) and path in _from_pipes:
        return _from_pipes[path]
    _check_regular(mode)
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        _check_regular(os.fstat(file.fileno()).st_mode)
        return _whole(file)


def _check_regular(mode: int) -> None:
    if stat.S_ISDIR(mode):
        raise IsADirectoryError("it is a directory")
    if not stat.S_ISREG(mode):
        raise NotRegularError("it is no regular file")


def _whole(file: BinaryIO) -> bytes:
    content = file.read(LARGEST + 1)
    if len(content) > LARGEST:
        raise TooLargeError(f"it has more than {LARGEST} bytes")
    return content
