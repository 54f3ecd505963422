"""A finding of `hookmill check`, and what a list of them comes to."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import msgspec

Level = Literal["note", "warning", "error"]
"""How bad it is; an error: messages would be lost, or none would get through."""


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """What was found, why it matters, and what to do about it."""

    level: Level
    what: str
    why: str
    do: str


def exit_status(findings: Iterable[Finding]) -> int:
    """Return 0 when all is well, 1 for warnings, 2 for errors."""
    levels = {finding.level for finding in findings}
    return 2 if "error" in levels else 1 if "warning" in levels else 0
