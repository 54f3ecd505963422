"""The log: what libraries write, and how it compares with structlog's own."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.runtime.logging_scripts import lines, run


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
