"""Reads what the filters of a page say. No I/O."""

from __future__ import annotations

import time
from collections.abc import Mapping

from hookmill.admin.body_paths import BodyPathError, Condition, condition_of
from hookmill.admin.filters import moment_ms
from hookmill.console.pages import PageRefusedError


def where_of(text: str) -> tuple[Condition, ...]:
    """Read a condition on the body. Raises `PageRefusedError`."""
    try:
        return (condition_of(text),) if text else ()
    except BodyPathError as error:
        raise PageRefusedError(400, f"where: {error}") from None


def moment_of(given: Mapping[str, str], name: str) -> int | None:
    """Read a time, None where none is given. Raises `PageRefusedError`."""
    if not given[name]:
        return None
    try:
        return moment_ms(given[name], time.time())
    except (ValueError, OverflowError):
        raise PageRefusedError(
            400, f"{name}: write a time such as 2026-11-21T09:30 (UTC), or 2h for 2 hours ago"
        ) from None
