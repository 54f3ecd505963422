"""Which errors are the same error: a fingerprint for each, without what differs each time. No I/O.

It is made of the error's last line (numbers, IDs and quoted texts left out), the handler, the type
of the exception, and the innermost frame of the traceback that is the user's own.
"""

from __future__ import annotations

import hashlib
import re
from typing import NamedTuple

from hookmill.error_text import last_line

_MAX_LINE = 400
"""Characters of a line that are looked at. A summary of ours is shorter."""

_KIND = re.compile(r"[A-Za-z_][\w.]{0,120}(?=: |$)")
_QUOTED = re.compile(r"(?<!\w)(['\"`])[^'\"`]*\1(?!\w)")
_WORD_WITH_DIGIT = re.compile(r"(?:0x)?[\w-]*[0-9][\w-]*")
_SEVERAL = re.compile(r"[+-]*#(?:[.,:/@+-]*#)*")
_FRAME = re.compile(
    r'^  File "([^"\n]{1,500})", line [0-9]+(?:, in ([^\n]{1,200}))?$', re.MULTILINE
)

_FOREIGN = re.compile(
    r"site-packages/|dist-packages/|/lib(?:64)?/python[0-9.]+/|^<frozen |"
    r"(?:^|/)(?:hookmill|worker)/\w+(?:/\w+)?\.py$"
)
"""Files that are not the user's: libraries, Python's own, and ours."""

_LENGTH = 12


class ErrorKind(NamedTuple):
    """What errors of one fingerprint have in common. `kind` is the type of the exception, `frame`
    the file and the function; both can be empty.
    """

    line: str
    handler: str
    kind: str
    frame: str

    @property
    def fingerprint(self) -> str:
        """Twelve hexadecimal digits that stand for it."""
        text = "\0".join(self).encode("utf-8", "surrogatepass")
        return hashlib.blake2b(text, digest_size=_LENGTH // 2).hexdigest()


def kind_of(error: str, handler: str) -> ErrorKind:
    """Return what the full text of an error has in common with others like it."""
    line = last_line(error)[:_MAX_LINE]
    kind = named[0] if (named := _KIND.match(line)) else ""
    return ErrorKind(kind + normalised(line[len(kind) :]), handler, kind, _own_frame(error))


def normalised(line: str) -> str:
    """Return a line without what differs each time: `*` stands for a quoted text, `#` for a number,
    an ID or a time.
    """
    line = _QUOTED.sub(r"\1*\1", line)
    line = _WORD_WITH_DIGIT.sub("#", line)
    return " ".join(_SEVERAL.sub("#", line).split())


def is_fingerprint(text: str) -> bool:
    """Return whether a text can be a fingerprint."""
    return re.fullmatch(f"[0-9a-f]{{{_LENGTH}}}", text) is not None


def _own_frame(error: str) -> str:
    """Return file and function of the innermost frame that is the user's. The line's number is left
    out, because the next deploy changes it, and most folders, because they differ between machines.
    """
    for written, function in reversed(_FRAME.findall(error)):
        path = written.replace("\\", "/")
        if not _FOREIGN.search(path):
            return f"{'/'.join(path.split('/')[-2:])}:{function}"
    return ""
