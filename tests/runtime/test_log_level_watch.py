"""A running program logs more or less for a while, and then as before, also without Redis."""

from __future__ import annotations

import io
import json
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import structlog

from hookmill.errors import StreamUnavailableError
from hookmill.runtime import log_level, logs
from hookmill.runtime.log_level_watch import LogLevelWatch
from hookmill.runtime.logs import configure_logs
from hookmill.stream.log_levels import SetLevel
from tests.support import Clock


class Operator:
    """What an operator has set, and a Redis that may be away."""

    def __init__(self) -> None:
        self.levels: list[SetLevel] = []
        self.is_away = False

    async def look(self) -> list[SetLevel]:
        if self.is_away:
            raise StreamUnavailableError("away")
        return self.levels


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], list[str]]]:
    """The levels whose lines are shown by a logger that was made before the change."""
    configure_logs("json", "info")
    written = io.BytesIO()
    monkeypatch.setattr(logs._output, "file", written)
    log: Any = structlog.get_logger("any")
    log.info("made")

    def levels() -> list[str]:
        written.truncate(0)
        written.seek(0)
        for level in log_level.LEVELS:
            getattr(log, level)(level)
        return [json.loads(line)["event"] for line in written.getvalue().splitlines()]

    yield levels
    structlog.reset_defaults()


async def test_the_level_goes_back_by_itself_also_while_redis_is_away(
    shown: Callable[[], list[str]],
) -> None:
    operator, clock = Operator(), Clock()
    watch = LogLevelWatch(operator.look, "info", ["c1", "worker"], clock)
    await watch.run_once()
    assert shown() == ["info", "warning", "error"]
    operator.levels = [SetLevel("*", "debug", 60.0)]
    await watch.run_once()
    assert shown() == ["debug", "info", "warning", "error"]
    operator.is_away = True
    with pytest.raises(StreamUnavailableError):
        await watch.run_once()
    assert shown()[0] == "debug"
    clock.now += 61
    with pytest.raises(StreamUnavailableError):
        await watch.run_once()
    assert shown() == ["info", "warning", "error"]


async def test_what_names_a_program_most_closely_counts(shown: Callable[[], list[str]]) -> None:
    operator = Operator()
    watch = LogLevelWatch(operator.look, "info", ["c1", "worker"])
    for level, set_now in (
        ("error", [SetLevel("*", "error", 60.0), SetLevel("another", "debug", 60.0)]),
        (
            "warning",
            [SetLevel("*", "error", 60.0), SetLevel(socket.gethostname(), "warning", 60.0)],
        ),
        ("debug", [SetLevel("*", "error", 60.0), SetLevel("c1", "debug", 60.0)]),
        ("info", [SetLevel("*", "no such level", 60.0)]),
    ):
        operator.levels = set_now
        await watch.run_once()
        assert shown()[0] == level
