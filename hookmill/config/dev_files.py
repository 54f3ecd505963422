"""What `hookmill dev` and `hookmill qstash` made for this run: keys, a token, addresses.

It is in a file of this user's own, in the current folder, for as long as the program runs. So
`hookmill send` and `Sender` find it in another terminal. A file of a program that has ended, or
that others can read or could have written, does not count.
"""

from __future__ import annotations

import fcntl
import os
import shlex
import stat
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

FOLDER = Path(".hookmill")
"""Where a program that runs for development keeps its files, in the current folder."""

DEV = "dev.env"
"""The file of `hookmill dev`."""

QSTASH = "qstash.env"
"""The file of `hookmill qstash`."""


@contextmanager
def kept(name: str, variables: Mapping[str, str]) -> Iterator[Path | None]:
    """Keep variables in a file while the block runs, `NAME=VALUE` on each line as in a shell.

    Gives its path, None if it cannot be written. The program that started last in this folder has
    the file.
    """
    path = FOLDER / name
    try:
        file = _written(path, variables)
    except OSError:
        yield None
        return
    with file:
        try:
            yield path
        finally:
            with suppress(OSError):
                # Otherwise it is the file of a later program.
                if path.stat().st_ino == os.fstat(file.fileno()).st_ino:
                    path.unlink()


def _written(path: Path, variables: Mapping[str, str]) -> IO[str]:
    FOLDER.mkdir(mode=0o700, exist_ok=True)
    with suppress(FileExistsError), (FOLDER / ".gitignore").open("x") as ignored:
        ignored.write("*\n")
    descriptor, fresh = tempfile.mkstemp(prefix=path.name, dir=FOLDER)  # it has mode 0600
    file = os.fdopen(descriptor, "w")
    fcntl.flock(file, fcntl.LOCK_EX)  # this tells readers that the program still runs
    file.writelines(f"{key}={shlex.quote(value)}\n" for key, value in variables.items())
    file.flush()
    Path(fresh).replace(path)
    return file


def of_running(name: str) -> dict[str, str]:
    """Return the variables in a file whose program runs; {} if there is none."""
    with suppress(OSError, ValueError):  # no file, or none that can be read
        return _read(FOLDER / name)
    return {}


def _read(path: Path) -> dict[str, str]:
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)) as file:
        about = os.fstat(file.fileno())
        is_private = about.st_uid == os.geteuid() and not about.st_mode & 0o077
        if not stat.S_ISREG(about.st_mode) or not is_private or not _is_locked(file.fileno()):
            return {}
        pairs = (word.partition("=") for word in shlex.split(file.read()))
        return {key: value for key, _, value in pairs}


def _is_locked(descriptor: int) -> bool:
    """Return whether the program that wrote this open file still runs."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False
