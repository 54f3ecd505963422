"""How an error of a handler is shown: as its full text, and in one line. No I/O.

The full text is the traceback, and its last line sums the error up. In the traceback of an
exception group or of an error with notes the last line says nothing: there the summary is added.
"""

from __future__ import annotations

import traceback
from collections import Counter
from collections.abc import Iterator
from itertools import islice

from hookmill.error_rules import leaves_of

MAX_ERROR = 16_384
"""Characters of a full text that are kept: its last ones."""

MAX_SUMMARY = 300
"""Characters of a summary."""

_MAX_OF_SEVERAL = 100
"""Characters that each error has in a summary of several, so that one does not hide the others."""

_MAX_LEAVES = 100
"""Errors of a group that are looked at. A group can have any number of them."""


def text_of(error: BaseException) -> str:
    """Return the traceback. Its last line is the summary."""
    text, summary = "".join(traceback.format_exception(error)), summary_of(error)
    if text[text.rfind("\n", 0, len(text) - 1) + 1 :].startswith(summary):
        return text[-MAX_ERROR:]
    # Odd notes end without a line feed.
    text = text[-(MAX_ERROR - MAX_SUMMARY - 2) :].removesuffix("\n")
    return f"{text}\n{summary}\n"


def summary_of(error: BaseException) -> str:
    """Return type and text of an error in one line; of a group, those of the errors in it.

    Notes stand at the end.
    """
    leaves = list(islice(leaves_of(error), _MAX_LEAVES))
    counts = Counter(map(_line_of, leaves))
    most = MAX_SUMMARY if len(counts) == 1 else _MAX_OF_SEVERAL
    parts = [
        line[:most] + (f" ({number} times)" if number > 1 else "")
        for line, number in counts.items()
    ]
    parts += [f"note: {note}" for note in _notes_of(error, leaves)]
    return "; ".join(parts)[:MAX_SUMMARY]


def last_line(text: str) -> str:
    """Return the line of a full text that sums the error up."""
    line = text.strip().rpartition("\n")[2]
    if line.strip(_BORDER) or not line:
        return line
    # An earlier release stored the traceback of a group without a summary. Show its last error.
    bare = (line.strip(_BORDER) for line in reversed(text.splitlines()))
    return next(filter(None, bare), "")


_BORDER = " +-|"
"""The characters of the frame that Python draws around the errors of a group."""


def _line_of(error: BaseException) -> str:
    kind = type(error)
    name = kind.__qualname__
    if kind.__module__ not in {"builtins", "__main__"}:
        name = f"{kind.__module__}.{name}"
    try:
        said = _one_line(str(error))
    except BaseException:  # noqa: BLE001 - the error is a user's, and so is what shows it
        said = "<its text cannot be shown>"
    return f"{name}: {said}" if said else name


def _notes_of(error: BaseException, leaves: list[BaseException]) -> Iterator[str]:
    """Yield the notes of an error, of the groups in it, and of its leaves."""
    with_notes: list[BaseException] = []
    groups = [error] if isinstance(error, BaseExceptionGroup) else []
    while groups and len(with_notes) < _MAX_LEAVES:
        group = groups.pop(0)
        with_notes.append(group)
        groups += [one for one in group.exceptions if isinstance(one, BaseExceptionGroup)]
    for one in [*with_notes, *leaves]:
        notes = getattr(one, "__notes__", None)
        if isinstance(notes, list):
            yield from (_one_line(note) for note in notes if isinstance(note, str))


def _one_line(text: str) -> str:
    lines = text[: 4 * MAX_SUMMARY].splitlines()
    return " ".join(filter(None, map(str.strip, lines)))
