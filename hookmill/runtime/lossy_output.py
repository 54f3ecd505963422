"""Standard output and standard error that never fail: what cannot be written is lost and counted.

The disk of the log may be full, and the reader of the log may be gone. Neither may fail a handler
that prints, end a program, or change its exit status.
"""

from __future__ import annotations

import io
import os
import sys
from contextlib import suppress
from typing import Any

Buffer = Any
"""Anything that has bytes: the type `collections.abc.Buffer` came with Python 3.12."""


class LossyFile(io.RawIOBase):
    """Writes to a file descriptor. `lost_lines` counts the lines that could not be written whole.

    It does not close the descriptor.
    """

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._is_torn = False
        self.lost_lines = 0

    def writable(self) -> bool:
        """Return True."""
        return True

    def fileno(self) -> int:
        """Return the file descriptor."""
        return self._descriptor

    def isatty(self) -> bool:
        """Return whether this is a terminal."""
        return os.isatty(self._descriptor)

    def write(self, data: Buffer) -> int:
        """Write all of `data`, or lose the rest of it; return its length in any case."""
        rest = memoryview(data).cast("B")
        length = len(rest)
        try:
            if self._is_torn:  # the line that was lost in part ends here
                os.write(self._descriptor, b"\n")
                self._is_torn = False
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
        except OSError:  # also where a pipe that does not block is full
            lost = bytes(rest)
            self.lost_lines += max(1, lost.count(b"\n"))
            written = length - len(lost)
            self._is_torn = self._is_torn or (written > 0 and data[written - 1] != ord("\n"))
        return length


def lose_what_cannot_be_written(stdout: LossyFile | None = None) -> None:
    """Replace `sys.stdout` and `sys.stderr`, so that printing never fails, and neither does the
    last flush when Python ends, which would make the exit status 120. `stdout` is a file to use for
    standard output, if there is one already.
    """
    sys.stdout = _lossy(sys.stdout, stdout)
    sys.stderr = _lossy(sys.stderr, None)


def open_missing_files() -> None:
    """Open /dev/null in the place of standard files that are closed. Otherwise a connection would
    get the number of one of them, and text would be written into it.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # it gets the lowest free number


def _lossy(stream: Any, file: LossyFile | None) -> Any:
    if not isinstance(stream, io.TextIOWrapper) or isinstance(stream.buffer, LossyFile):
        return stream
    with suppress(OSError):
        stream.flush()
    if file is None:
        file = LossyFile(stream.fileno())
    is_buffered = isinstance(stream.buffer, io.BufferedWriter)
    return io.TextIOWrapper(
        io.BufferedWriter(file) if is_buffered else file,
        encoding=stream.encoding,
        errors=stream.errors,
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )
