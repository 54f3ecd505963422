"""QStash's callbacks: which event a callback is, and how it is read if a part is unreadable."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from msgspec import UNSET

from hookmill.admin.declared_events import of_module
from hookmill.catalog import qstash
from hookmill.catalog.qstash import (
    AttemptFailed,
    Callback,
    DeliveryFailed,
    DeliverySucceeded,
    type_of,
)
from hookmill.errors import DecodeError
from hookmill.schema import json_schema
from tests.catalog.callbacks import ANSWER, CREATED, FAILED, POST, WIRE, failed, stored

FIELDS: dict[str, Any] = {
    "source_message_id": "msg_source",
    "status": 507,
    "headers": {"Content-Type": ("text/plain",), "Via": ("1.1 a", "1.1 b")},
    "body": ANSWER,
    "retried": 3,
    "max_retries": 3,
    "url": "https://acme.example/hook",
    "method": "POST",
    "source_headers": {
        "Content-Type": ("application/json",),
        "X-Marble-Signature": ("sha256=0",),
    },
    "source_body": POST,
    "created_at": CREATED,
    "not_before": CREATED + timedelta(milliseconds=10_971),
    "topic_name": "subscribers",
    "endpoint_name": "acme",
    "schedule_id": "scd_1",
    "caller_ip": "192.0.2.1",
}


def refusal(cls: type[Callback], body: bytes | dict[str, Any]) -> str:
    with pytest.raises(DecodeError) as caught:
        cls.from_message(stored(body))
    return str(caught.value)


# --- which event it is ---


def test_the_catalogue_is_the_three_events_a_callback_can_be() -> None:
    assert [cls.tag for cls in qstash.EVENTS] == [
        "delivery.succeeded", "delivery.attempt_failed", "delivery.failed"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("said", "tag"),
    [
        ({"status": 200}, "delivery.succeeded"),
        ({"status": 204}, "delivery.succeeded"),
        ({"status": 299}, "delivery.succeeded"),
        ({"status": "200"}, "delivery.succeeded"),
        ({"status": 200, "dlqId": None}, "delivery.succeeded"),
        ({"status": 200, "dlqId": ""}, "delivery.succeeded"),
        ({"status": 199}, "delivery.attempt_failed"),
        ({"status": 300}, "delivery.attempt_failed"),
        ({"status": 302}, "delivery.attempt_failed"),
        ({"status": 489}, "delivery.attempt_failed"),
        ({"status": 500}, "delivery.attempt_failed"),
        ({"status": 0}, "delivery.attempt_failed"),
        ({"status": None}, "delivery.attempt_failed"),
        ({}, "delivery.attempt_failed"),
        # The last attempt as well: that QStash has given up is a callback of its own.
        ({"status": 500, "retried": 3, "maxRetries": 3}, "delivery.attempt_failed"),
        ({"status": 500, "dlqId": "1-0"}, "delivery.failed"),
        ({"status": 200, "dlqId": "1-0"}, "delivery.failed"),
        ({"dlqId": "1-0"}, "delivery.failed"),
    ],
)
def test_what_a_callback_says_tells_which_event_it_is(said: dict[str, Any], tag: str) -> None:
    message = stored({"sourceMessageId": "msg_source"} | said)

    assert type_of(message.body) == tag
    for cls in qstash.EVENTS:
        if cls.tag == tag:
            assert cls.from_message(message).source_message_id == "msg_source"
        else:
            assert refusal(cls, message.body) == f"Expected the callback `{cls.tag}`, got `{tag}`"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b'{"status":200}',
        b'{"type":"delivery.failed"}',
        b'{"event":"delivery.failed","status":500}',
        b'{"sourceMessageId":""}',
        b'{"sourceMessageId":null}',
        b'{"sourceMessageId":7}',
        b'{"sourceMessageId":"\xff"}',
        b'{"sourceMessageId":"\\ud800"}',
        b'{"data":{"sourceMessageId":"msg_1"}}',
        b'{"dlqId":7}',
        b'{"sourceMessageId":"msg_1"',
        b"[" * 100_000,
        b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b',"sourceMessageId":"msg_1"}',
    ],
    ids=lambda body: ascii(body)[:40],
)
def test_a_body_that_is_no_callback_is_no_event(body: bytes) -> None:
    assert type_of(body) == ""
    for cls in qstash.EVENTS:
        assert refusal(cls, body)


# --- what it says ---


def test_a_failure_is_read_whole() -> None:
    assert failed() == DeliveryFailed(dlq_id="1701198460000-0", **FIELDS)


@pytest.mark.parametrize(
    ("cls", "status"), [(DeliverySucceeded, 200), (AttemptFailed, 507)], ids=lambda v: str(v)[-20:]
)
def test_what_is_said_of_an_attempt_is_read_whole(cls: type[Callback], status: int) -> None:
    event = cls.from_message(stored(WIRE | {"status": status}))

    assert event == cls(**FIELDS | {"status": status})


@pytest.mark.parametrize("nothing", [{}, dict.fromkeys(WIRE)], ids=["left out", "null"])
def test_what_is_left_out_and_what_is_null_is_unset(nothing: dict[str, None]) -> None:
    body = nothing | {"sourceMessageId": "msg_source", "dlqId": "1-0"}

    event = DeliveryFailed.from_message(stored(body))

    assert event == DeliveryFailed(source_message_id="msg_source", dlq_id="1-0")
    assert (event.status, event.body, event.created_at, event.headers) == (UNSET, UNSET, UNSET, {})


def test_fields_that_are_new_to_us_are_passed_over() -> None:
    assert failed(label="x", flowControl={"key": [1]}, error=None) == failed()


@pytest.mark.parametrize(
    ("changed", "name", "value"),
    [
        ({"status": "507"}, "status", 507),
        ({"retried": "2"}, "retried", 2),
        ({"createdAt": 1701198447054}, "created_at", CREATED),
        ({"createdAt": 0}, "created_at", datetime(1970, 1, 1, tzinfo=UTC)),
        ({"createdAt": "yesterday"}, "created_at", UNSET),
        ({"createdAt": ""}, "created_at", UNSET),
        ({"createdAt": 10**30}, "created_at", UNSET),
        ({"notBefore": "9" * 5000}, "not_before", UNSET),
        ({"header": {"A": "b", "C": None, "D": []}}, "headers", {"A": ("b",), "C": (), "D": ()}),
        ({"header": f"REDACTED:{'0' * 64}"}, "headers", {}),
        ({"sourceHeader": f"REDACTED:{'0' * 64}"}, "source_headers", {}),
        ({"body": ""}, "body", b""),
        ({"body": f"REDACTED:{'0' * 64}"}, "body", UNSET),
        ({"body": "…"}, "body", UNSET),
        ({"body": "YWJj…"}, "body", b"abc"),
        ({"body": "YWJjZ"}, "body", b"abc"),
        ({"body": "YWJjZA"}, "body", b"abcd"),
        ({"sourceBody": ""}, "source_body", b""),
        ({"sourceBody": "YWJjZA"}, "source_body", UNSET),
        ({"sourceBody": "YWJj…"}, "source_body", UNSET),
        ({"sourceBody": f"REDACTED:{'0' * 64}"}, "source_body", UNSET),
    ],
    ids=lambda value: ascii(value)[:40],
)
def test_an_unreadable_part_does_not_affect_the_others(
    changed: dict[str, Any], name: str, value: object
) -> None:
    event = failed(**changed)

    assert getattr(event, name) == value
    others = FIELDS.keys() - {name}
    assert {other: getattr(event, other) for other in others} == {
        other: FIELDS[other] for other in others
    }


@pytest.mark.parametrize(
    ("wrong", "path"),
    [
        ({"sourceMessageId": 7}, "$.sourceMessageId"),
        ({"sourceMessageId": None}, "$.sourceMessageId"),
        ({"status": "fine"}, "$.status"),
        ({"retried": []}, "$.retried"),
        ({"url": 7}, "$.url"),
        ({"header": {"A": [7]}}, "$.header[...][0]"),
        ({"sourceBody": {}}, "$.sourceBody"),
        ({"createdAt": {}}, "$.createdAt"),
    ],
)
def test_a_wrong_type_is_named_by_its_path(wrong: dict[str, Any], path: str) -> None:
    assert refusal(DeliveryFailed, FAILED | wrong).endswith(f"`{path}`")


def test_a_failure_of_no_message_says_what_it_lacks() -> None:
    assert type_of(b'{"dlqId":"1-0"}') == "delivery.failed"
    assert refusal(DeliveryFailed, b'{"dlqId":"1-0"}') == (
        "Object missing required field `sourceMessageId`"
    )


# --- whatever comes ---


@given(body=st.binary())
def test_any_bytes_end_in_an_event_or_a_decode_error(body: bytes) -> None:
    check_that_receiver_and_decoder_agree(body)


VALUES: list[object] = [
    None,
    True,
    7,
    200,
    -1.5,
    10**30,
    "",
    "text",
    "200",
    [],
    ["a"],
    {},
    {"a": 7},
]
JSON_VALUES = st.sampled_from(VALUES) | st.text(max_size=5) | st.floats() | st.integers(0, 600)


@given(
    said=st.dictionaries(st.sampled_from(sorted(FAILED)), JSON_VALUES),
    base=st.sampled_from([{}, WIRE, FAILED, {"sourceMessageId": "m"}]),
    flaw=st.none() | st.tuples(st.integers(min_value=0), st.integers(0, 255)),
)
def test_any_body_with_nearly_the_right_fields_ends_in_its_event_or_a_decode_error(
    said: dict[str, object], base: dict[str, Any], flaw: tuple[int, int] | None
) -> None:
    body = bytearray(json.dumps(base | said).encode())
    if flaw is not None:
        position, byte = flaw
        body[position % len(body)] = byte

    check_that_receiver_and_decoder_agree(bytes(body))


def check_that_receiver_and_decoder_agree(body: bytes) -> None:
    named = type_of(body)
    for cls in qstash.EVENTS:
        try:
            event = cls.from_message(stored(body))
        except DecodeError:
            continue
        assert named == cls.tag
        assert isinstance(event.source_message_id, str)
        succeeded = isinstance(event.status, int) and 200 <= event.status <= 299
        assert succeeded or cls is not DeliverySucceeded
        assert not succeeded or cls is not AttemptFailed


def test_the_schema_describes_a_callback_as_it_is_written() -> None:
    schema = json_schema(of_module(qstash))
    assert len(schema["anyOf"]) == 1, "the three have one form"
    validator = Draft202012Validator(schema)
    assert validator.is_valid(WIRE)
    assert validator.is_valid(FAILED)
    assert not validator.is_valid({"status": 200})
    assert not validator.is_valid(WIRE | {"url": 7})
