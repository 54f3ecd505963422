"""The records as the API shows them."""

from __future__ import annotations

import base64
import hashlib
import json

import pytest
from msgspec.structs import replace

from hookmill.emulator import views
from hookmill.emulator.models import (
    AttemptResult,
    CallbackTarget,
    CronSchedule,
    DlqMessage,
    Endpoint,
    FlowControlKey,
    FlowLimits,
    LogEntry,
    PublishRequest,
    QStashMessage,
    Queue,
    Receipt,
    SigningKeys,
    Template,
    UrlGroup,
)

URL = "https://example.com/hook"

BARE = QStashMessage("msg_1", URL, Template(), 1, 1000, 1000)

FULL = QStashMessage(
    id="msg_2",
    url=URL,
    template=Template(
        method="PUT",
        headers=(("Content-Type", "text/plain"), ("X", "a"), ("X", "b")),
        body="\u00fc".encode(),
        retries=5,
        retry_delay="1000",
        timeout=2.5,
        callback=CallbackTarget("https://example.com/told", headers=(("Y", "1"),)),
        failure_callback=CallbackTarget("https://example.com/failed", headers=(("Z", "2"),)),
        labels=("one", "two"),
        flow_control=FlowLimits("k", 2, 3, 60.0),
        caller_ip="10.1.2.3",
    ),
    number=2,
    created_ms=1000,
    due_ms=9000,
    not_before_ms=2000,
    url_group="team",
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
    in_dlq = DlqMessage("dlq_1", hidden, AttemptResult(500), 3000)
    request = PublishRequest(URL, hidden.template)
    schedule = CronSchedule("scd_1", "* * * * *", request, 1000, 2000)
    for shown in (views.message(hidden), views.dlq_message(in_dlq), views.schedule(schedule)):
        assert shown["body"] == body
        assert shown["header"]["X"] == headers
        is_all = fields == ("header",)
        assert shown["callbackHeader"]["Y"][0].startswith("REDACTED:" if is_all else "1")


def test_a_dlq_message_shows_the_last_response() -> None:
    answer = AttemptResult(500, (("X-Why", "busy"), ("X-Why", "very")), b"not now")
    assert views.dlq_message(DlqMessage("dlq_1", FULL, answer, 3000)) == {
        **SHOWN,
        "dlqId": "dlq_1",
        "responseStatus": 500,
        "responseHeader": {"X-Why": ["busy", "very"]},
        "responseBody": "not now",
    }
    binary = views.dlq_message(DlqMessage("dlq_1", BARE, AttemptResult(500, (), b"\xff"), 3000))
    assert binary["responseBodyBase64"] == "/w=="
    silent = views.dlq_message(
        DlqMessage("dlq_1", BARE, AttemptResult(error="no route to host"), 3000)
    )
    assert (silent["responseStatus"], silent["responseBody"]) == (0, "no route to host")


def test_a_log_entry_shows_the_message_and_the_answer() -> None:
    answer = AttemptResult(500, (("X-Why", "busy"),), b"not now")
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


def test_a_schedule_shows_its_request_and_its_times() -> None:
    request = PublishRequest(URL, FULL.template, queue="q", delay_ms=5000)
    schedule = CronSchedule(
        "scd_1", "* * * * *", request, 1000, 3000, 2000, {"msg_1": "SUCCESS"}, True, "no such group"
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


def test_url_groups_queues_flow_control_keys_and_signing_keys_are_shown() -> None:
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
    one = FlowControlKey("k", 1, 2, 60.0, True, True, False, 3, 5000)
    assert views.flow_control_key(one, waiting=4, active=1) == {
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
    assert views.keys(SigningKeys("a", "b")) == {"current": "a", "next": "b"}


def test_a_url_gets_an_object_and_a_group_a_list() -> None:
    receipt = Receipt("msg_1", "https://a/")
    again = replace(receipt, is_duplicate=True)
    assert views.published(PublishRequest(URL, Template()), [receipt]) == {"messageId": "msg_1"}
    assert views.published(PublishRequest(URL, Template()), [again]) == {
        "messageId": "msg_1",
        "deduplicated": True,
    }
    assert views.published(PublishRequest("team", Template()), [receipt, again]) == [
        {"messageId": "msg_1", "url": "https://a/"},
        {"messageId": "msg_1", "url": "https://a/", "deduplicated": True},
    ]


def test_everything_shown_is_json() -> None:
    for shown in (views.message(FULL), views.log_entry(LogEntry(1, "CREATED", FULL))):
        assert json.loads(json.dumps(shown)) == shown
