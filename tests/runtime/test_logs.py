"""The log: one JSON object a line, whatever values a line has."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hookmill.runtime.logs import _to_json
from tests.runtime.logging_scripts import START, lines, run


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


KEEP = """
    import contextvars

    from hookmill.runtime.logs import KeptLines

    configure_logs("json")
    kept = KeptLines("test")
"""


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_lines_that_are_kept_are_written_whole_and_in_order(unbuffered: str) -> None:
    script = f"""{KEEP}
    for number in range(2000):
        kept.log.info("one of many", number=number)
    kept.log.error("an error among them")
    thread = threading.Thread(target=log.info, args=["another logger's, at once"])
    thread.start()
    thread.join()
    kept.write()
    kept.write()
    log.info("after")
    """
    first, *found, error, last = lines(script, PYTHONUNBUFFERED=unbuffered)
    assert first["event"] == "another logger's, at once"
    assert [line["number"] for line in found] == list(range(2000))
    assert (error["event"], error["level"]) == ("an error among them", "error")
    assert last["event"] == "after"


def test_a_line_that_is_kept_carries_what_was_bound_when_it_was_logged() -> None:
    script = f"""{KEEP}
    contextvars.ContextVar("of another library").set("theirs")
    with structlog.contextvars.bound_contextvars(id="msg_1"):
        kept.log.info("with it")
    kept.log.info("without it")
    kept.write()
    """
    first, second = lines(script)
    assert (first["event"], first["id"], second["event"]) == ("with it", "msg_1", "without it")
    assert "id" not in second
    assert "theirs" not in {*first.values(), *second.values()}


def test_where_a_user_has_configured_structlog_his_logger_writes_every_line_at_once() -> None:
    script = """
    from hookmill.runtime.logs import KeptLines

    configure_logs("json")
    structlog.configure(
        processors=[structlog.processors.TimeStamper("iso"), structlog.processors.JSONRenderer()],
        logger_factory=structlog.PrintLoggerFactory(),
        cache_logger_on_first_use=False,
    )
    kept = KeptLines("test")
    kept.log.info("his")
    kept.write()
    """
    assert lines(script) == [{"event": "his"}]


def test_lines_of_the_same_moment_share_a_time_that_is_at_most_a_millisecond_old() -> None:
    script = """
    from datetime import UTC, datetime
    from hookmill.runtime import logs

    configure_logs("json")
    kept = logs.KeptLines("test")
    for _ in range(2000):
        before = datetime.now(UTC).timestamp()
        kept.log.info("now")
        stamp = logs.msgspec.json.decode(kept._lines.pop())["timestamp"]
        age = before - datetime.fromisoformat(stamp).timestamp()
        assert age <= logs.SHARED_TIME, age
    """
    run(script)
