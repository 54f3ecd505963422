"""Log lines that anybody can cause are short and few; our own faults keep their tracebacks."""

from __future__ import annotations

import logging
import sys

import pytest
from aiohttp import ClientPayloadError
from aiohttp.http_exceptions import BadHttpMessage, BadStatusLine, LineTooLong

from hookmill.runtime.log_limit import PER_SECOND
from receiver.log_limits import OneLineFilter, server_logger
from tests.support import Clock


def record(
    error: BaseException | None, text: str = "Error handling request from %s"
) -> logging.LogRecord:
    """A record as aiohttp's `log_exception` makes it, with a traceback where there is an error."""
    exc_info = None
    if error is not None:
        try:
            raise error
        except BaseException:  # noqa: BLE001 - the traceback is what we came for
            exc_info = sys.exc_info()
    return logging.LogRecord(
        "receiver.http", logging.ERROR, __file__, 1, text, ("192.0.2.7",), exc_info
    )


@pytest.mark.parametrize(
    "error",
    [
        BadStatusLine("x" * 10_000),
        LineTooLong(b"x" * 10_000, 8190),
        BadHttpMessage("first\nsecond\n\tTraceback"),
        ClientPayloadError("the body\nbroke off"),
        ConnectionResetError("gone"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_a_client_caused_is_one_short_warning_without_a_traceback(
    error: BaseException,
) -> None:
    line = record(error)
    assert OneLineFilter().filter(line)
    assert line.getMessage() == f"Error handling request from 192.0.2.7: {type(error).__name__}"
    assert (line.exc_info, line.levelname, line.levelno) == (None, "WARNING", logging.WARNING)


def test_a_fault_of_our_own_keeps_its_traceback_and_its_level() -> None:
    line = record(KeyError("ours"))
    assert OneLineFilter().filter(line)
    assert line.exc_info is not None
    assert line.levelno == logging.ERROR
    assert line.getMessage() == "Error handling request from 192.0.2.7"


def test_a_line_is_cut_at_its_first_line_break() -> None:
    line = record(None, "Bad request from %s\nGET / HTTP/1.1\nforged: line")
    assert OneLineFilter().filter(line)
    assert line.getMessage() == "Bad request from 192.0.2.7"


def test_few_lines_a_second_pass_and_the_next_one_says_how_many_did_not() -> None:
    clock = Clock()
    one_line = OneLineFilter(clock)
    passed = [one_line.filter(record(ConnectionResetError())) for _ in range(PER_SECOND + 7)]
    assert passed == [True] * PER_SECOND + [False] * 7
    clock.now += 1
    late, later = record(ConnectionResetError()), record(ConnectionResetError())
    assert one_line.filter(late)
    assert one_line.filter(later)
    assert late.getMessage() == (
        "Error handling request from 192.0.2.7: ConnectionResetError (7 lines held back)"
    )
    assert later.getMessage() == "Error handling request from 192.0.2.7: ConnectionResetError"


def test_a_crowd_of_strangers_does_not_hide_a_fault_of_our_own() -> None:
    one_line = OneLineFilter(Clock())
    for _ in range(10 * PER_SECOND):
        one_line.filter(record(ConnectionResetError()))
    assert one_line.filter(record(KeyError("ours")))


def test_a_fault_of_our_own_that_anybody_can_cause_does_not_flood_the_log_either() -> None:
    one_line = OneLineFilter(Clock())
    passed = [one_line.filter(record(KeyError("ours"))) for _ in range(10 * PER_SECOND)]
    assert passed.count(True) == PER_SECOND


def test_the_servers_logger_is_filtered_once_however_often_it_is_asked_for() -> None:
    assert server_logger() is server_logger()
    assert [type(held) for held in server_logger().filters] == [OneLineFilter]
