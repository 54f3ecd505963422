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
