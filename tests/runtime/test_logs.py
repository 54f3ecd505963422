"""The log: one JSON object a line, whatever values a line has."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path
from textwrap import dedent
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hookmill.runtime.logs import _to_json

# Logging is set up once for a process, so each script here has a process of its own.
START = """
import logging, sys, threading
import structlog
from hookmill.runtime.logs import configure_logs

log = structlog.get_logger("test")
"""


def run(script: str, **env: str) -> subprocess.CompletedProcess[bytes]:
    done = subprocess.run(
        [sys.executable, "-c", START + dedent(script)],
        env={"PATH": os.environ["PATH"], **env},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    return done


def lines(script: str, **env: str) -> list[dict[str, Any]]:
    """Run a script and return its log, less the times, which are checked for being there."""
    done = run(script, **env)
    assert done.stderr == b""
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert all(line.pop("timestamp").endswith("Z") for line in found)
    return found


class Unshowable:
    def __repr__(self) -> str:
        raise RuntimeError("no")


class Odd:
    def __repr__(self) -> str:
        return "odd \udcff"


def loop() -> list[Any]:
    endless: list[Any] = []
    endless.append(endless)
    return endless


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("text", "text"),
        ("line\nbreak \x1b[2J \x00 \u2028", "line\nbreak \x1b[2J \x00 \u2028"),
        ("not UTF-8: \udcff", "not UTF-8: \\udcff"),
        (b"\xff", "/w=="),
        ({"deep": ["\udcff"]}, "{'deep': ['\\udcff']}"),
        (Odd(), "odd \\udcff"),
        (Unshowable(), "<a Unshowable that cannot be shown>"),
        ([Unshowable()], "<a list that cannot be shown>"),
        (loop(), "[[...]]"),
        ({(1, 2): {3}}, {"(1, 2)": [3]}),
        (ValueError("wrong"), "ValueError('wrong')"),
        (int, "<class 'int'>"),
        (2**70, 2**70),
        (float("nan"), None),
        (None, None),
    ],
)
def test_a_line_is_json_whatever_stands_in_it(value: object, shown: object) -> None:
    line = _to_json({"event": "happened", "value": value, "attempt": 3})

    assert b"\n" not in line
    assert json.loads(line) == {"event": "happened", "value": shown, "attempt": 3}


ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters())
    | st.binary()
    | st.builds(object)
    | st.builds(Unshowable)
    | st.builds(Odd),
    lambda inner: (
        st.lists(inner)
        | st.tuples(inner)
        | st.dictionaries(st.text(st.characters()) | st.integers() | st.binary(), inner)
    ),
    max_leaves=10,
)


@given(st.dictionaries(st.text(st.characters(), min_size=1), ANYTHING))
def test_anything_at_all_makes_one_line_of_json(line: dict[str, Any]) -> None:
    written = _to_json(line)

    assert b"\n" not in written
    assert len(json.loads(written)) <= len(line)
    msgspec.json.decode(written, strict=True)


def test_every_line_carries_what_is_bound_to_the_process_and_to_the_message() -> None:
    assert lines("""
        configure_logs("json", "info", program="worker-1")
        log.info("working")
        with structlog.contextvars.bound_contextvars(id="msg_1", source="qstash"):
            log.warning("failed", attempt=2)
            threading.Thread(target=log.info, args=("from a thread",)).start()
        log.debug("not shown")
        """) == [
        {"program": "worker-1", "event": "working", "level": "info"},
        {
            "program": "worker-1",
            "id": "msg_1",
            "source": "qstash",
            "event": "failed",
            "attempt": 2,
            "level": "warning",
        },
        {"program": "worker-1", "event": "from a thread", "level": "info"},
    ]


def test_what_a_line_is_about_is_bound_as_structlog_binds_it() -> None:
    assert lines("""
        from hookmill.runtime.logs import bind_message

        configure_logs("json")
        log.info("nothing yet")
        bind_message("msg_1", "qstash", "order.paid")
        log.info("working", bound=structlog.contextvars.get_contextvars())
        log.info("the line's own counts more", type="other")
        structlog.contextvars.unbind_contextvars("type")
        log.error("unbound")
        """) == [
        {"event": "nothing yet", "level": "info"},
        {
            "event": "working",
            "bound": {"id": "msg_1", "source": "qstash", "type": "order.paid"},
            "id": "msg_1",
            "source": "qstash",
            "type": "order.paid",
            "level": "info",
        },
        {
            "event": "the line's own counts more",
            "id": "msg_1",
            "source": "qstash",
            "type": "other",
            "level": "info",
        },
        {"event": "unbound", "id": "msg_1", "source": "qstash", "level": "error"},
    ]


def test_the_fast_info_writes_what_structlogs_own_processors_would() -> None:
    ours, theirs = run("""
        import time
        from structlog.testing import capture_logs

        def say():
            structlog.contextvars.bind_contextvars(id="msg_1")
            log.bind(tenant="blue", a=1).info("%s of %d", "one", 2, b=[{"c": None}], a=2)
            log.info("plain", text="\\u20ac\\udcff", level="x", timestamp="y")
            log.info("failed", exc_info=ValueError("wrong"))
            log.warn("failed", exc_info=(ValueError, ValueError("wrong"), None))
            log.info("not failed", exc_info=True)

        configure_logs("json", "info", program="p")
        with capture_logs() as captured:
            say()
        assert len(captured) == 5, captured
        say()
        print("--", flush=True)

        from structlog.processors import JSONRenderer, TimeStamper, add_log_level, format_exc_info
        from hookmill.runtime.logs import _to_json

        structlog.configure(
            wrapper_class=structlog.make_filtering_bound_logger(20),
            processors=[
                lambda _, __, line: {"program": "p", **line},
                structlog.contextvars.merge_contextvars,
                add_log_level,
                format_exc_info,
                TimeStamper(fmt="iso", utc=True),
                JSONRenderer(serializer=lambda line, **_: _to_json(line)),
            ],
            logger_factory=structlog.BytesLoggerFactory(),
        )
        log = structlog.get_logger()
        say()
        """).stdout.split(b"--\n")

    def without_times(written: bytes) -> bytes:
        written, number = re.subn(rb'"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{6})?Z"', b"now", written)
        assert number == 5
        return written

    assert without_times(ours) == without_times(theirs)


def test_a_library_that_logs_with_a_structlog_of_its_own_is_in_the_log_as_well() -> None:
    found = lines("""
        configure_logs("json", "info", program="p")
        structlog.contextvars.bind_contextvars(id="msg_1")
        generic = structlog.wrap_logger(None, wrapper_class=structlog.BoundLogger)
        generic.info("generic")
        generic.exception("failed")
        generic.msg("said")
        """)

    assert [(line["event"], line["level"], line["id"]) for line in found] == [
        ("generic", "info", "msg_1"),
        ("failed", "error", "msg_1"),
        ("said", "msg", "msg_1"),
    ]


@pytest.mark.parametrize(
    ("level", "shown"),
    [
        ("debug", ["debug", "info", "warning", "error"]),
        ("info", ["info", "warning", "error"]),
        ("warning", ["warning", "error"]),
        ("error", ["error"]),
    ],
)
def test_the_level_says_what_is_shown(level: str, shown: list[str]) -> None:
    found = lines(f"""
        configure_logs("json", "{level}")
        for level in ("debug", "info", "warning", "error"):
            getattr(log, level)("x")
        """)

    assert [line["level"] for line in found] == shown


def test_a_library_is_let_through_from_warnings_up_one_line_each() -> None:
    found = lines("""
        configure_logs("json", "info", program="p")
        library = logging.getLogger("library")
        library.setLevel(logging.DEBUG)
        library.info("not shown")
        library.warning("shown %s", "whole")
        library.log(35, "between the levels")
        library.critical("beyond them")
        library.warning("%d that do not fit", "arguments")
        structlog.contextvars.bind_contextvars(id="msg_1")
        try:
            1 / 0
        except ZeroDivisionError:
            library.exception("while it worked\\non two lines")
        """)

    assert [(line["level"], line["event"]) for line in found] == [
        ("warning", "shown whole"),
        ("warning", "between the levels"),
        ("critical", "beyond them"),
        ("warning", "%d that do not fit ('arguments',)"),
        ("error", "while it worked\non two lines"),
    ]
    assert {line["logger"] for line in found} == {"library"}
    assert {line["program"] for line in found} == {"p"}
    assert found[-1]["id"] == "msg_1"
    assert "ZeroDivisionError: division by zero" in found[-1]["exception"]


def test_an_exception_stays_on_its_line() -> None:
    (line,) = lines("""
        configure_logs("json")
        try:
            raise ValueError("surrogate \\udcff")
        except ValueError:
            log.exception("failed")
        """)

    assert "ValueError: surrogate \\udcff" in line["exception"]


def test_the_log_is_readable_on_a_terminal_and_json_otherwise() -> None:
    script = 'configure_logs(); log.info("working", group="main")'
    assert lines(script) == [{"event": "working", "group": "main", "level": "info"}]

    ours, theirs = pty.openpty()
    with os.fdopen(ours, "rb", buffering=0) as terminal:
        subprocess.run(
            [sys.executable, "-c", START + script],
            env={"PATH": os.environ["PATH"], "TERM": "xterm"},
            stdout=theirs,
            check=True,
        )
        os.close(theirs)
        shown = terminal.read(4096).decode()

    assert "working" in shown
    assert "group" in shown
    assert "{" not in shown


def test_a_terminal_that_cannot_show_a_character_is_shown_its_escape() -> None:
    done = run(
        'configure_logs("console"); log.info("hostile \\udcff \\u20ac", header="\\udcff")',
        PYTHONIOENCODING="ascii",
    )

    assert b"hostile \\udcff \\u20ac" in done.stdout
    assert done.stderr == b""


def test_the_handlers_own_standard_logging_carries_the_message_as_well(tmp_path: Path) -> None:
    (line,) = lines("""
        import asyncio
        configure_logs("json")

        async def handle():
            structlog.contextvars.bind_contextvars(id="msg_1")
            await asyncio.to_thread(logging.getLogger("app").error, "in a thread of the handler's")

        asyncio.run(handle())
        """)

    assert (line["id"], line["event"]) == ("msg_1", "in a thread of the handler's")


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_lines_written_together_are_whole_and_in_order(unbuffered: str) -> None:
    script = """
        from hookmill.runtime.logs import written_together

        configure_logs("json")
        with written_together():
            for number in range(2000):
                log.info("one of many", number=number)
            thread = threading.Thread(target=log.info, args=["another thread's, at once"])
            thread.start()
            thread.join()
        log.info("after")
    """
    found = lines(script, PYTHONUNBUFFERED=unbuffered)
    assert [line["event"] for line in found][:1] == ["another thread's, at once"]
    assert [line["number"] for line in found[1:-1]] == list(range(2000))
    assert found[-1]["event"] == "after"


def test_lines_of_other_contexts_are_written_together_as_well() -> None:
    script = """
        from contextvars import copy_context
        from hookmill.runtime import logs

        configure_logs("json")
        context = copy_context()
        context.run(logs.bind_message, "msg_1", "qstash", "order.paid")
        with logs.written_together():
            context.run(log.info, "collected")
            log.info("behind it")
            assert len(logs._collected.lines) == 2
    """
    first, second = lines(script)
    assert (first["event"], first["id"], second["event"]) == ("collected", "msg_1", "behind it")
    assert "id" not in second


def test_lines_collected_before_an_error_are_written() -> None:
    script = """
        from contextlib import suppress
        from hookmill.runtime.logs import written_together

        configure_logs("json")
        with suppress(LookupError), written_together():
            log.info("before")
            raise LookupError
    """
    assert [line["event"] for line in lines(script)] == ["before"]
