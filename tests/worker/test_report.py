"""One line an outcome, at the level it deserves."""

from __future__ import annotations

from typing import Any

import pytest
import structlog

from hookmill.message import Progress
from worker.attempt import Again, Dead, Discarded, Done, FannedOut, HandedBack, Ignored, Outcome
from worker.report import report

BEFORE = Progress(owner="7-1", handler="book", attempts=2)
FAILED = Progress(owner="7-1", handler="book", attempts=3)


@pytest.mark.parametrize(
    ("outcome", "line"),
    [
        (
            Done("book"),
            {"log_level": "info", "event": "handled", "handler": "book", "attempt": 3, "ms": 12.3},
        ),
        (Ignored(), {"log_level": "debug", "event": "ignored"}),
        (
            Discarded("book", "gone"),
            {"log_level": "warning", "event": "discarded", "handler": "book", "reason": "gone"},
        ),
        (
            FannedOut(BEFORE, ("book", "mail")),
            {"log_level": "debug", "event": "several handlers match", "handlers": ("book", "mail")},
        ),
        (
            Again(BEFORE, 60.04, "asked to wait"),
            {
                "log_level": "info", "event": "will run again", "handler": "book", "attempt": 3,
                "after": 60.0, "reason": "asked to wait",
            },
        ),
        (
            Again(FAILED, 1.26, "ValueError: no", "Traceback ..."),
            {
                "log_level": "warning", "event": "will run again", "handler": "book", "attempt": 3,
                "after": 1.3, "reason": "ValueError: no",
            },
        ),
        (
            Dead(FAILED, "failed", "Traceback\n  in book\nValueError: no\n"),
            {
                "log_level": "error", "event": "dead letter", "handler": "book", "attempts": 3,
                "reason": "failed", "error": "ValueError: no",
            },
        ),
        (HandedBack(BEFORE), {"log_level": "info", "event": "handed back"}),
    ],
)  # fmt: skip
def test_an_outcome_is_one_line_in_the_log(outcome: Outcome, line: dict[str, Any]) -> None:
    with structlog.testing.capture_logs() as logs:
        report(outcome, BEFORE, 0.01234)
    assert logs == [line]
