"""Callbacks: what they deliver, and what their body says of the attempt that they report on."""

from __future__ import annotations

import base64
import json

import msgspec

from hookmill.emulator.callbacks import body_of, by_name, template_of
from hookmill.emulator.models import AttemptResult, CallbackTarget, QStashMessage, Template

MESSAGE = QStashMessage(
    id="msg_1",
    url="https://app.example/hook",
    template=Template(
        method="PUT",
        headers=(("Content-Type", "text/plain"), ("X-Tag", "a"), ("X-Tag", "b")),
        body=b"\x00\xff",
        retries=5,
        caller_ip="192.0.2.1",
    ),
    number=1,
    created_ms=1_000,
    due_ms=3_000,
    not_before_ms=2_000,
    retried=2,
    url_group="group",
    endpoint="first",
    schedule_id="scd_1",
)
RESULT = AttemptResult(507, (("Via", "1.1 a"), ("Via", "1.1 b")), b"full")


def test_a_body_says_all_of_the_message_and_of_the_attempt() -> None:
    assert json.loads(body_of(MESSAGE, RESULT, dlq_id="7-0")) == {
        "status": 507,
        "header": {"Via": ["1.1 a", "1.1 b"]},
        "body": base64.b64encode(b"full").decode(),
        "retried": 2,
        "maxRetries": 5,
        "sourceMessageId": "msg_1",
        "topicName": "group",
        "endpointName": "first",
        "url": "https://app.example/hook",
        "method": "PUT",
        "sourceHeader": {"Content-Type": ["text/plain"], "X-Tag": ["a", "b"]},
        "sourceBody": base64.b64encode(b"\x00\xff").decode(),
        "notBefore": "2000",
        "createdAt": "1000",
        "scheduleId": "scd_1",
        "callerIP": "192.0.2.1",
        "dlqId": "7-0",
    }


def test_only_a_message_in_the_dlq_has_an_id_there() -> None:
    assert "dlqId" not in json.loads(body_of(MESSAGE, RESULT, dlq_id=""))


def test_without_an_answer_the_body_is_the_error() -> None:
    said = json.loads(body_of(MESSAGE, AttemptResult(error="connection refused"), dlq_id=""))
    assert said["status"] == 0
    assert base64.b64decode(said["body"]) == b"connection refused"


def test_a_callback_is_delivered_as_its_target_says() -> None:
    target = CallbackTarget(
        "https://app.example/report",
        method="PATCH",
        headers=(("X-Mine", "1"),),
        retries=1,
        retry_delay="1000",
        timeout=7.0,
    )
    made = template_of(target, MESSAGE, RESULT, "7-0")
    assert made == Template(
        method="PATCH",
        headers=(("Content-Type", "application/json"), ("X-Mine", "1")),
        body=body_of(MESSAGE, RESULT, "7-0"),
        retries=1,
        retry_delay="1000",
        timeout=7.0,
        caller_ip="192.0.2.1",
    )


def test_a_callback_has_no_callbacks_of_its_own() -> None:
    target = CallbackTarget("https://app.example/report")
    message = msgspec.structs.replace(MESSAGE, template=Template(callback=target))
    assert template_of(target, message, RESULT, "").callback is None


def test_a_header_that_occurs_more_than_once_keeps_all_its_values_in_order() -> None:
    assert by_name((("A", "1"), ("B", "2"), ("A", "3"))) == {"A": ["1", "3"], "B": ["2"]}
