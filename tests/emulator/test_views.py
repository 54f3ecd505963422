"""The records as the API shows them, and pages that nothing shifts."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from hookmill.emulator import views
from hookmill.emulator.models import (
    Answer,
    Callback,
    DeadLetter,
    Endpoint,
    FlowControl,
    Gate,
    Keys,
    LogEntry,
    Message,
    Order,
    Queue,
    Receipt,
    Schedule,
    Template,
    UrlGroup,
)
from hookmill.emulator.requests import Page

URL = "https://example.com/hook"
BARE = Message("msg_1", URL, Template(), 1, 1000, 1000)
FULL = Message(
    id="msg_2",
    url=URL,
    template=Template(
        method="PUT",
        headers=(("Content-Type", "text/plain"), ("X", "a"), ("X", "b")),
        body="\u00fc".encode(),
        retries=5,
        retry_delay="1000",
        timeout=2.5,
        callback=Callback("https://example.com/told", headers=(("Y", "1"),)),
        failure_callback=Callback("https://example.com/failed", headers=(("Z", "2"),)),
        labels=("one", "two"),
        flow_control=FlowControl("k", 2, 3, 60.0),
        caller_ip="10.1.2.3",
    ),
    number=2,
    created_ms=1000,
    due_ms=9000,
    not_before_ms=2000,
    topic="team",
    endpoint="first",
    queue="q",
    schedule_id="scd_1",
)
SHOWN = {
    "messageId": "msg_2",
    "url": URL,
    "method": "PUT",
    "header": {"Content-Type": ["text/plain"], "X": ["a", "b"]},
    "body": "\u00fc",
    "maxRetries": 5,
    "retryDelayExpression": "1000",
    "notBefore": 2000,
    "createdAt": 1000,
    "callback": "https://example.com/told",
    "callbackHeader": {"Y": ["1"]},
    "failureCallback": "https://example.com/failed",
    "failureCallbackHeader": {"Z": ["2"]},
    "label": "one",
    "labels": ["one", "two"],
    "flowControlKey": "k",
    "parallelism": 2,
    "rate": 3,
    "period": 60,
    "callerIP": "10.1.2.3",
    "topicName": "team",
    "endpointName": "first",
    "queueName": "q",
    "scheduleId": "scd_1",
}
HASH = hashlib.sha256


def test_a_message_shows_all_it_has() -> None:
    assert views.message(FULL) == SHOWN


def test_a_message_shows_nothing_that_it_has_not() -> None:
    assert views.message(BARE) == {
        "messageId": "msg_1",
        "url": URL,
        "method": "POST",
        "body": "",
        "maxRetries": 3,
        "notBefore": 1000,
        "createdAt": 1000,
    }


def test_a_body_that_is_no_text_is_shown_in_base64() -> None:
    shown = views.message(replace(BARE, template=Template(body=b"\xff\x00")))
    assert "body" not in shown
    assert shown["bodyBase64"] == "/wA="


@pytest.mark.parametrize(
    ("fields", "body", "headers"),
    [
        (("body",), f"REDACTED:{HASH('ü'.encode()).hexdigest()}", ["a", "b"]),
        (("header",), "ü", [f"REDACTED:{HASH(text).hexdigest()}" for text in (b"a", b"b")]),
        (("header[x]",), "ü", [f"REDACTED:{HASH(text).hexdigest()}" for text in (b"a", b"b")]),
        (("header[other]",), "ü", ["a", "b"]),
    ],
)
def test_what_is_redacted_shows_its_hash(
    fields: tuple[str, ...], body: str, headers: list[str]
) -> None:
    hidden = replace(FULL, template=replace(FULL.template, redact=fields))
    letter = DeadLetter("dlq_1", hidden, Answer(500), 3000)
    order = Order(URL, hidden.template)
    schedule = Schedule("scd_1", "* * * * *", order, 1000, 2000)
    for shown in (views.message(hidden), views.dead_letter(letter), views.schedule(schedule)):
        assert shown["body"] == body
        assert shown["header"]["X"] == headers
        is_all = fields == ("header",)
        assert shown["callbackHeader"]["Y"][0].startswith("REDACTED:" if is_all else "1")


def test_a_dead_letter_shows_the_last_answer() -> None:
    answer = Answer(500, (("X-Why", "busy"), ("X-Why", "very")), b"not now")
    assert views.dead_letter(DeadLetter("dlq_1", FULL, answer, 3000)) == {
        **SHOWN,
        "dlqId": "dlq_1",
        "responseStatus": 500,
        "responseHeader": {"X-Why": ["busy", "very"]},
        "responseBody": "not now",
    }
    binary = views.dead_letter(DeadLetter("dlq_1", BARE, Answer(500, (), b"\xff"), 3000))
    assert binary["responseBodyBase64"] == "/w=="
    silent = views.dead_letter(DeadLetter("dlq_1", BARE, Answer(error="no route to host"), 3000))
    assert (silent["responseStatus"], silent["responseBody"]) == (0, "no route to host")


def test_a_log_entry_shows_the_message_and_the_answer() -> None:
    answer = Answer(500, (("X-Why", "busy"),), b"not now")
    shown = views.log_entry(LogEntry(5000, "ERROR", FULL, "status code 500", 9000, answer))
    common = {
        name: value
        for name, value in SHOWN.items()
        if name not in {"body", "notBefore", "createdAt", "callbackHeader", "failureCallbackHeader"}
    }
    assert shown == {
        **common,
        "time": 5000,
        "state": "ERROR",
        "error": "status code 500",
        "nextDeliveryTime": 9000,
        "timeout": 2500,
        "retryDelayExpr": "1000",
        "callbackHeaders": {"Y": ["1"]},
        "failureCallbackHeaders": {"Z": ["2"]},
        "responseStatus": 500,
        "responseHeader": {"X-Why": ["busy"]},
        "responseHeaders": {"X-Why": ["busy"]},
        "responseBody": base64.b64encode(b"not now").decode(),
    }
    created = views.log_entry(LogEntry(5000, "CREATED", BARE))
    assert not created.keys() & {"error", "nextDeliveryTime", "responseStatus", "timeout"}


def test_a_schedule_shows_its_order_and_its_times() -> None:
    order = Order(URL, FULL.template, queue="q", delay_ms=5000)
    schedule = Schedule(
        "scd_1", "* * * * *", order, 1000, 3000, 2000, {"msg_1": "SUCCESS"}, True, "no such group"
    )
    shown = views.schedule(schedule)
    wanted = {
        "scheduleId": "scd_1",
        "destination": URL,
        "cron": "* * * * *",
        "createdAt": 1000,
        "isPaused": True,
        "nextScheduleTime": 3000,
        "lastScheduleTime": 2000,
        "lastScheduleStates": {"msg_1": "SUCCESS"},
        "error": "no such group",
        "retries": 5,
        "delay": 5,
        "timeout": 2,
        "queueName": "q",
        "callerIP": "10.1.2.3",
        "callerIp": "10.1.2.3",
    }
    assert {name: shown[name] for name in wanted} == wanted


def test_the_small_ones() -> None:
    group = UrlGroup("team", 1, 2, (Endpoint("https://a/", "first"), Endpoint("https://b/")))
    assert views.url_group(group) == {
        "name": "team",
        "createdAt": 1,
        "updatedAt": 2,
        "endpoints": [{"name": "first", "url": "https://a/"}, {"url": "https://b/"}],
    }
    assert views.queue(Queue("q", 1, 2, 3, True), 4) == {
        "name": "q",
        "createdAt": 1,
        "updatedAt": 2,
        "parallelism": 3,
        "paused": True,
        "lag": 4,
    }
    gate = Gate("k", 1, 2, 60.0, True, True, False, 3, 5000)
    assert views.gate(gate, waiting=4, active=1) == {
        "flowControlKey": "k",
        "waitListSize": 4,
        "parallelismMax": 1,
        "parallelismCount": 1,
        "rateMax": 2,
        "rateCount": 3,
        "ratePeriod": 60,
        "ratePeriodStart": 5,
        "isPaused": True,
        "isPinnedParallelism": True,
        "isPinnedRate": False,
    }
    assert views.keys(Keys("a", "b")) == {"current": "a", "next": "b"}


def test_a_url_gets_an_object_and_a_group_a_list() -> None:
    receipt = Receipt("msg_1", "https://a/")
    again = replace(receipt, is_duplicate=True)
    assert views.published(Order(URL, Template()), [receipt]) == {"messageId": "msg_1"}
    assert views.published(Order(URL, Template()), [again]) == {
        "messageId": "msg_1",
        "deduplicated": True,
    }
    assert views.published(Order("team", Template()), [receipt, again]) == [
        {"messageId": "msg_1", "url": "https://a/"},
        {"messageId": "msg_1", "url": "https://a/", "deduplicated": True},
    ]


def test_everything_shown_is_json() -> None:
    for shown in (views.message(FULL), views.log_entry(LogEntry(1, "CREATED", FULL))):
        assert json.loads(json.dumps(shown)) == shown


# --- pages ---

TIMES = st.lists(st.integers(1, 4), max_size=12)


def entries(times: list[int]) -> list[LogEntry]:
    """A log, the latest entry first; each can be told from the others."""
    found = [LogEntry(at, "CREATED", replace(BARE, number=n)) for n, at in enumerate(sorted(times))]
    return found[::-1]


def place_in(given: dict[str, Any]) -> tuple[int, str] | None:
    cursor = given.get("cursor")
    at, _, which = cursor.partition("-") if cursor else ("", "", "")
    return (int(at), which) if cursor else None


@given(times=TIMES, size=st.integers(1, 5), later=TIMES)
def test_the_logs_pages_are_the_log_whatever_comes_meanwhile(
    times: list[int], size: int, later: list[int]
) -> None:
    log, cursor, given = entries(times), None, list[LogEntry]()
    newest = max(times, default=1)
    whole = [*entries([max(at, newest) for at in later]), *log]
    for turn in range(len(times) + 1):
        page, more = views.latest_first(log if turn == 0 else whole, Page(cursor, size))
        given += page
        cursor = place_in(more)
        if cursor is None:
            break
    assert given == log


@given(times=TIMES, size=st.integers(1, 5))
def test_the_dlqs_pages_are_the_dlq_though_each_page_is_deleted(
    times: list[int], size: int
) -> None:
    letters = [DeadLetter(f"dlq_{n}", BARE, Answer(), at) for n, at in enumerate(times)]

    def place_of(letter: DeadLetter) -> views.Place:
        return letter.died_ms, letter.id

    letters.sort(key=place_of)
    left, cursor, given = letters, None, list[DeadLetter]()
    for _ in range(len(times) + 1):
        page, more = views.oldest_first(left, Page(cursor, size), place_of)
        given += page
        left = [letter for letter in left if letter not in page]
        cursor = place_in(more)
        if cursor is None:
            break
    assert given == letters


def test_a_cursor_that_is_a_time_alone_means_what_is_older() -> None:
    log = entries([1, 2, 2, 3])
    page, more = views.latest_first(log, Page((3, ""), 10))
    assert ([entry.at_ms for entry in page], more) == ([2, 2, 1], {})
