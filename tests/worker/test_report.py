"""Each outcome is one line of the log, at the level that fits it."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
import structlog

from hookmill.instrumentation.facts import AttemptEnded
from hookmill.message import Progress
from tests.runtime.logging_scripts import lines
from tests.worker.attempts import ended as attempt_ended
from worker.outcome import (
    DeadLettered,
    Discarded,
    Done,
    FannedOut,
    Ignored,
    Outcome,
    Requeued,
    RetryLater,
)
from worker.report import Reporter, report

BEFORE = Progress(owner="7-1", handler="book", attempts=2)
FAILED = Progress(owner="7-1", handler="book", attempts=3)


def ended(outcome: Outcome) -> AttemptEnded[Outcome]:
    return attempt_ended(outcome, BEFORE)


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
            RetryLater(BEFORE, 60.04, "asked to wait"),
            {
                "log_level": "info", "event": "will run again", "handler": "book", "attempt": 3,
                "after": 60.0, "reason": "asked to wait",
            },
        ),
        (
            RetryLater(FAILED, 1.26, "ValueError: no", "Traceback ..."),
            {
                "log_level": "warning", "event": "will run again", "handler": "book", "attempt": 3,
                "after": 1.3, "reason": "ValueError: no",
            },
        ),
        (
            DeadLettered(FAILED, "failed", "Traceback\n  in book\nValueError: no\n"),
            {
                "log_level": "error", "event": "dead letter", "handler": "book", "attempts": 3,
                "reason": "failed", "error": "ValueError: no",
            },
        ),
        (
            DeadLettered(FAILED, "failed", "  | X: (1)\n    | ValueError: no\n    +------\n"),
            {
                "log_level": "error", "event": "dead letter", "handler": "book", "attempts": 3,
                "reason": "failed", "error": "ValueError: no",
            },
        ),
        (Requeued(BEFORE), {"log_level": "info", "event": "requeued"}),
    ],
)  # fmt: skip
def test_an_outcome_is_one_line_in_the_log(outcome: Outcome, line: dict[str, Any]) -> None:
    with structlog.testing.capture_logs() as logs:
        report(structlog.get_logger(), outcome, BEFORE, 0.01234)
    assert logs == [line]


async def test_what_ends_in_one_tick_is_logged_in_order_each_in_its_own_context() -> None:
    reporter = Reporter()

    async def work(name: str) -> None:
        structlog.contextvars.bind_contextvars(id=name)
        reporter.put(ended(Done(name)))

    with structlog.testing.capture_logs([structlog.contextvars.merge_contextvars]) as logs:
        await asyncio.gather(work("a"), work("b"))
        await asyncio.sleep(0)
    assert [(line["handler"], line["id"]) for line in logs] == [("a", "a"), ("b", "b")]


async def test_a_tick_that_takes_long_does_not_hold_lines_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("worker.report.MAX_DELAY", -1.0)
    with structlog.testing.capture_logs() as logs:
        Reporter().put(ended(Done("book")))
        assert [line["event"] for line in logs] == ["handled"]
        await asyncio.sleep(0)
    assert len(logs) == 1


async def test_where_the_level_leaves_handled_messages_out_only_other_outcomes_are_logged(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    reported: list[Outcome] = []
    monkeypatch.setattr("worker.report.report", lambda _, outcome, *__: reported.append(outcome))
    reporter = Reporter()
    for outcome in (Done("book"), Discarded("book", "gone")):
        reporter.put(ended(outcome))
    await asyncio.sleep(0)
    assert reported == [Discarded("book", "gone")]


@pytest.mark.parametrize("end", ["raise SystemExit", "raise ValueError", "return"])
def test_a_line_is_written_although_the_program_ends_at_once(end: str) -> None:
    script = f"""
        import asyncio
        from contextlib import suppress
        from tests.worker.attempts import ended
        from worker.outcome import Done
        from worker.report import Reporter

        async def main():
            Reporter().put(ended(Done("book")))
            {end}

        configure_logs("json")
        with suppress(SystemExit, ValueError):
            asyncio.run(main())
    """
    assert [line["event"] for line in lines(script)] == ["handled"]


async def test_a_full_disk_under_the_log_does_not_stop_the_worker(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr("worker.report.report", fail)
    monkeypatch.setattr("worker.report.MAX_DELAY", -1.0)
    Reporter().put(ended(Done("book")))
