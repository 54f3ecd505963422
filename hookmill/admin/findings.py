"""A finding of `hookmill check`, the order of findings, and the exit status that they mean."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, get_args

import msgspec

Level = Literal["error", "warning", "note"]
"""How bad it is, the worst first. An error: messages would be lost, or none would get through."""


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """What was found, why it matters, and what to do about it."""

    level: Level
    what: str
    why: str
    do: str


def worst_first(findings: Iterable[Finding]) -> list[Finding]:
    """Sort findings by level. Those of one level keep their order."""
    return sorted(findings, key=lambda finding: get_args(Level).index(finding.level))


def exit_status(findings: Iterable[Finding]) -> int:
    """Return 0 when all is well, 1 for warnings, 2 for errors."""
    levels = {finding.level for finding in findings}
    return 2 if "error" in levels else 1 if "warning" in levels else 0
