"""Standard error on which control characters are shown as escapes.

What the command line's library writes there, and what Python writes about an error that nobody
caught, may quote what a stranger chose.
"""

from __future__ import annotations

import io
import sys
import threading
import traceback
from types import TracebackType
from typing import TextIO

from hookmill.printable import block, printable


class EscapedText(io.TextIOWrapper):
    """A text file that shows control characters as escapes. It keeps line breaks and tabs.

    `unescaped` is the file that it stands for: what draws on the terminal writes there.
    """

    def __init__(self, unescaped: io.TextIOWrapper) -> None:
        # To a file for ASCII the command line's library would not write, but to a UTF-8 file of its
        # own. So this one is never called ASCII, and escapes the rest itself.
        self._is_ascii = unescaped.encoding.lower() in {"ascii", "us-ascii", "ansi_x3.4-1968"}
        super().__init__(
            unescaped.buffer,
            encoding="utf-8" if self._is_ascii else unescaped.encoding,
            errors="backslashreplace",
            line_buffering=True,
        )
        self.unescaped = unescaped

    def write(self, text: str) -> int:
        """Write a text; return its length."""
        shown = printable(text, keep="\n\t")
        if self._is_ascii:
            shown = shown.encode("ascii", "backslashreplace").decode()
        super().write(shown)
        return len(text)


def escape_stderr() -> None:
    """Replace `sys.stderr`, and have errors of threads and of destructors written the same way.

    A program that runs handlers sets `sys.stderr` back, because it belongs to the handlers then.
    """
    if isinstance(sys.stderr, io.TextIOWrapper):
        sys.stderr = EscapedText(sys.stderr)
    threading.excepthook = _of_thread
    sys.unraisablehook = _of_destructor


def _of_thread(args: threading.ExceptHookArgs) -> None:
    if args.exc_type is not SystemExit:
        name = args.thread.name if args.thread else "unknown"
        _write(f"thread {name} ended with an error", args.exc_value, args.exc_traceback)


def _of_destructor(args: sys.UnraisableHookArgs) -> None:
    _write("an error could not be raised", args.exc_value, args.exc_traceback)


def _write(what: str, error: BaseException | None, where: TracebackType | None) -> None:
    file: TextIO | None = sys.stderr
    if file is None or error is None:
        return
    text = "".join(traceback.format_exception(type(error), error, where))
    file.write(f"hookmill: {printable(what)}\n{block(text)}\n")
    file.flush()
