"""Dead letters in groups of the same error: how many, the newest, and an example of each.

Nothing is kept for it: the groups are counted by a walk, the newest dead letter first, that can end
after a bounded number and tells how far it has come.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any, NamedTuple

import msgspec

from hookmill.admin.dead_letters import MOST_LOOKED_AT, describe, page
from hookmill.admin.filters import DeadLetterFilter
from hookmill.admin.fingerprints import ErrorKind, kind_of
from hookmill.admin.units import moment
from hookmill.error_text import last_line
from hookmill.message import Death
from hookmill.stream.dead_letters import LARGEST_PAGE, DeadLetters
from hookmill.stream.entries import DeadLetter

MOST_GROUPS = 2_000
"""Groups that are kept apart. What belongs to others is only counted."""


class ErrorGroup(msgspec.Struct):
    """Dead letters with the same fingerprint. The `example` is the newest of them, as `describe`
    says it; its `error` is the last line alone.
    """

    kind: ErrorKind
    example: dict[str, Any]
    oldest_died_ms: int
    count: int = 0

    @property
    def fingerprint(self) -> str:
        """What `--error` takes."""
        return self.kind.fingerprint


class GroupsSoFar(NamedTuple):
    """What a walk has found so far: its groups, the one with the newest error first. `others` are
    dead letters of further groups. It `is_complete` where no dead letter is left to look at.
    """

    groups: list[ErrorGroup]
    looked_at: int = 0
    others: int = 0
    is_complete: bool = False


async def groups(
    letters: DeadLetters,
    wanted: DeadLetterFilter | None = None,
    *,
    most: int | None = MOST_LOOKED_AT,
) -> AsyncGenerator[GroupsSoFar]:
    """Yield the groups of the dead letters that a filter matches, after each step of the walk.

    It looks at the newest `most` (None: at all of them). The last value is the whole result.
    """
    found: dict[str, ErrorGroup] = {}
    so_far, cursor = GroupsSoFar([]), ""
    while most is None or so_far.looked_at < most:
        left = LARGEST_PAGE if most is None else min(LARGEST_PAGE, most - so_far.looked_at)
        rows, looked_at, cursor = await page(letters, wanted, cursor=cursor, count=left, most=left)
        others = so_far.others + sum(not _add(found, letter) for letter in rows)
        total = so_far.looked_at + looked_at
        so_far = GroupsSoFar(list(found.values()), total, others, is_complete=not cursor)
        yield so_far
        if not cursor:
            return


def describe_group(group: ErrorGroup) -> dict[str, Any]:
    """Return what is known of a group as JSON-ready values."""
    example = group.example
    return {
        "fingerprint": group.fingerprint,
        "count": group.count,
        "newest_died_at": example["died_at"],
        "oldest_died_at": moment(group.oldest_died_ms),
        "error": group.kind.line,
        "frame": group.kind.frame,
        **{name: example[name] for name in ("reason", "handler", "source", "type")},
        "example": {"id": example["id"], "error": example["error"]},
    }


def _add(found: dict[str, ErrorGroup], letter: DeadLetter) -> bool:
    """Add a dead letter to its group; return False where there are too many groups."""
    _, error, died_ms = msgspec.structs.astuple(Death.from_fields(letter.fields))
    kind = kind_of(error, letter.fields.get(b"handler", b"").decode("utf-8", "replace"))
    group = found.get(kind.fingerprint)
    if group is None:
        if len(found) == MOST_GROUPS:
            return False
        example = describe(letter) | {"error": last_line(error)}
        group = ErrorGroup(kind, example, died_ms)
        found[kind.fingerprint] = group
    group.count += 1
    group.oldest_died_ms = died_ms
    return True
