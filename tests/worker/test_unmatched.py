"""A type that no handler matches is logged with the types that are known, and not too often."""

from __future__ import annotations

from typing import Any

import pytest
import structlog

from hookmill import Handlers
from tests.worker.attempts import Paid, Try, entry
from worker.outcome import RetryLater
from worker.unmatched import MAX_TYPES, PERIOD, UnmatchedTypes, known_types


async def handle(delivery: Any) -> None: ...


@pytest.fixture
def handlers() -> Handlers[Any]:
    handlers = Handlers()
    handlers.on("push", name="b")(handle)
    handlers.on(Paid, name="a")(handle)
    handlers.on("order.*", name="c")(handle)
    handlers.on("push", name="d")(handle)
    return handlers


async def test_a_message_without_a_handler_is_a_warning_that_names_the_known_types(
    attempt: Try,
) -> None:
    with structlog.testing.capture_logs([structlog.contextvars.merge_contextvars]) as logs:
        await attempt(entry(event_type="oder.paid", id="m1"))
        await attempt(entry(event_type="oder.paid", id="m2"))
        await attempt(entry(event_type="push"))
    assert [(line["log_level"], line["event"]) for line in logs] == [
        ("warning", "no handler matches this event type")
    ]
    (line,) = logs
    assert (line["id"], line["type"]) == ("m1", "oder.paid")
    assert line["known"] == "order.*, order.paid, push"


def test_a_type_is_logged_once_a_minute(handlers: Handlers[Any]) -> None:
    now = 0.0
    types = UnmatchedTypes(handlers, lambda: now)
    with structlog.testing.capture_logs() as logs:
        types.warn("a")
        now = PERIOD - 1
        types.warn("a")
        types.warn("b")
        assert len(logs) == 2
        now = PERIOD
        types.warn("a")
    assert len(logs) == 3


def test_types_that_a_stranger_makes_up_fill_neither_the_log_nor_the_memory(
    handlers: Handlers[Any],
) -> None:
    now = 0.0
    types = UnmatchedTypes(handlers, lambda: now)
    with structlog.testing.capture_logs() as logs:
        for number in range(10 * MAX_TYPES):
            types.warn(f"type-{number}" + "x" * 10_000)
        assert len(logs) == MAX_TYPES
        assert sum(map(len, types._logged)) <= 200 * MAX_TYPES
        now = PERIOD
        types.warn("a")
    assert len(logs) == MAX_TYPES + 1


def test_of_very_many_known_types_some_are_named() -> None:
    handlers = Handlers()
    for number in range(100):
        handlers.on(f"type-{number:02}", name=str(number))(handle)
    assert len(known_types(handlers)) < 320
    assert known_types(handlers).startswith("type-00, type-01, ")
    assert known_types(handlers).endswith(", type-32, and 67 more")
    assert known_types(Handlers()) == ""


async def test_a_full_disk_under_the_log_does_not_end_the_attempt(
    attempt: Try, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr("worker.unmatched.log.warning", fail)
    assert isinstance(await attempt(entry(event_type="oder.paid")), RetryLater)
