"""The broker: what is published is delivered when its time has come, or lies in the DLQ."""

from __future__ import annotations

import base64
import json

import pytest

from hookmill.emulator.filters import Filter
from hookmill.emulator.models import (
    ApiError,
    AttemptResult,
    CallbackTarget,
    Endpoint,
    PublishRequest,
    Template,
)
from tests.emulator.brokers import BROKEN, OK, TimedBroker

BACKOFF = [12.182, 148.413, 1808.042, 22026.466, 86400.0, 86400.0]
"""e^(2.5 n) seconds, a day at most."""


def test_a_message_is_delivered_once_and_is_gone() -> None:
    timed = TimedBroker()
    message_id = timed.publish(body=b"x")

    assert [one.id for one in timed.attempt(OK)] == [message_id]

    assert timed.start() == []
    assert timed.broker.messages(Filter()) == []
    assert timed.states(message_id) == ["CREATED", "ACTIVE", "DELIVERED"]
    with pytest.raises(ApiError, match="not found") as caught:
        timed.broker.message(message_id)
    assert caught.value.status == 404


def test_a_message_is_retried_with_qstashs_backoff_and_then_goes_to_the_dlq() -> None:
    timed = TimedBroker()
    message_id = timed.publish(retries=6)
    waits = []
    for retried in range(7):
        (message,) = timed.attempt(BROKEN)
        assert (message.id, message.retried) == (message_id, retried)
        if retried < 6:
            waits.append(timed.skip())

    assert waits == pytest.approx(BACKOFF, abs=0.002)
    (in_dlq,) = timed.broker.dlq.find(Filter())
    assert in_dlq.message.id == message_id
    assert in_dlq.result == BROKEN
    assert timed.states(message_id)[-2:] == ["ERROR", "FAILED"]
    assert timed.broker.messages(Filter()) == []


def test_the_time_scale_shortens_every_wait() -> None:
    timed = TimedBroker(scale=0.01)
    timed.publish(delay_ms=50_000, retries=1)
    assert timed.start() == []
    assert timed.skip() == pytest.approx(0.5)
    timed.attempt(BROKEN)
    assert timed.skip() == pytest.approx(0.121, abs=0.002)
    timed.publish(not_before_ms=round(timed.now * 1000) + 100_000)
    timed.attempt(OK)
    assert timed.skip() == pytest.approx(1.0)


def test_not_before_takes_precedence_over_the_delay_and_a_past_one_is_now() -> None:
    timed = TimedBroker()
    timed.publish(delay_ms=5000, not_before_ms=round(timed.now * 1000) + 60_000)
    assert timed.skip() == pytest.approx(60)
    passed = timed.publish(not_before_ms=1000)
    assert passed in [one.id for one in timed.start()]


@pytest.mark.parametrize("status", [100, 199, 300, 302, 404, 489, 500])
def test_every_status_but_2xx_is_retried(status: int) -> None:
    timed = TimedBroker()
    timed.publish()
    timed.attempt(AttemptResult(status))
    assert timed.skip() == pytest.approx(BACKOFF[0], abs=0.002)


@pytest.mark.parametrize("value", ["true", "TRUE"])
def test_489_with_its_header_goes_to_the_dlq_at_once(value: str) -> None:
    timed = TimedBroker()
    message_id = timed.publish()
    timed.attempt(AttemptResult(489, (("upstash-nonretryable-error", value),)))
    assert [one.message.id for one in timed.broker.dlq.find(Filter())] == [message_id]
    assert timed.broker.start_attempts(9).look_again_ms is None


def test_no_retries_means_one_attempt() -> None:
    timed = TimedBroker()
    timed.publish(retries=0)
    timed.attempt(BROKEN)
    assert len(timed.broker.dlq.find(Filter())) == 1


def test_a_url_group_gets_a_message_for_each_endpoint() -> None:
    timed = TimedBroker()
    timed.broker.url_groups.add(
        "site", [Endpoint("http://a.example/", "a"), Endpoint("http://b.example/")]
    )
    receipts = timed.broker.publish(PublishRequest("site", Template()))
    assert [one.url for one in receipts] == ["http://a.example/", "http://b.example/"]
    assert len({one.message_id for one in receipts}) == 2
    assert [(one.url_group, one.endpoint) for one in timed.start()] == [("site", "a"), ("site", "")]
    with pytest.raises(ApiError, match="'other' not found"):
        timed.broker.publish(PublishRequest("other", Template()))


def test_a_callback_reports_each_attempt_and_the_failure_callback_the_end() -> None:
    timed = TimedBroker()
    report = CallbackTarget(
        "http://cb.example/", headers=(("X-Mine", "1"),), method="PUT", retries=1
    )
    message_id = timed.publish(
        body=b"\xff\x00", headers=(("Content-Type", "text/plain"), ("X-A", "1"), ("X-A", "2")),
        retries=1, callback=report, failure_callback=CallbackTarget("http://dead.example/"),
    )  # fmt: skip
    timed.attempt(AttemptResult(500, (("Server", "s"),), b"\xfe"))
    (first,) = timed.attempt(OK)
    timed.skip()
    timed.attempt(BROKEN)
    second, failure = timed.attempt(OK)

    assert [one.url for one in (first, second)] == ["http://cb.example/"] * 2
    assert failure.url == "http://dead.example/"
    assert (first.template.method, first.template.retries) == ("PUT", 1)
    assert dict(first.template.headers) == {"Content-Type": "application/json", "X-Mine": "1"}
    said = json.loads(first.template.body)
    assert base64.b64decode(said.pop("body")) == b"\xfe"
    assert base64.b64decode(said.pop("sourceBody")) == b"\xff\x00"
    created = said.pop("createdAt")
    assert said.pop("notBefore") == created
    assert int(created) == 1_779_400_000_000
    assert said == {
        "status": 500, "header": {"Server": ["s"]}, "retried": 0, "maxRetries": 1,
        "sourceMessageId": message_id, "topicName": "", "endpointName": "", "scheduleId": "",
        "url": "http://a.example/", "method": "POST", "callerIP": "",
        "sourceHeader": {"Content-Type": ["text/plain"], "X-A": ["1", "2"]},
    }  # fmt: skip
    assert "dlqId" not in json.loads(second.template.body)
    assert json.loads(second.template.body)["retried"] == 1
    (in_dlq,) = timed.broker.dlq.find(Filter())
    assert json.loads(failure.template.body)["dlqId"] == in_dlq.id


def test_a_callback_that_fails_is_retried_and_causes_no_callback() -> None:
    timed = TimedBroker()
    timed.publish(callback=CallbackTarget("http://cb.example/", retries=1))
    timed.attempt(OK)
    timed.attempt(BROKEN)
    timed.skip()
    assert [one.retried for one in timed.attempt(BROKEN)] == [1]
    assert [one.message.url for one in timed.broker.dlq.find(Filter())] == ["http://cb.example/"]
    assert timed.broker.start_attempts(9) == ([], None)


def test_a_cancelled_message_is_not_delivered_even_if_its_attempt_fails() -> None:
    timed = TimedBroker()
    waiting, running = timed.publish(delay_ms=1000), timed.publish("http://b.example/")
    (message,) = timed.start()
    assert message.id == running
    assert timed.broker.cancel(Filter(message_ids=(running, waiting, "msg_other"))) == 2
    timed.broker.finish_attempt(message, BROKEN)
    timed.now += 1
    assert timed.broker.start_attempts(9) == ([], None)
    assert timed.broker.dlq.find(Filter()) == []
    assert timed.states(running) == ["CREATED", "ACTIVE", "CANCELED"]


def test_no_more_attempts_start_than_allowed_and_none_is_forgotten() -> None:
    timed = TimedBroker()
    ids = [timed.publish() for _ in range(5)]
    first = timed.start(most=3)
    assert timed.broker.active == 3
    assert timed.start(most=0) == []
    assert [one.id for one in [*first, *timed.start(most=9)]] == ids


def test_the_keys_move_up_when_they_are_rotated() -> None:
    broker = TimedBroker().broker
    before = broker.keys
    rotated = broker.rotate_keys()
    assert rotated.current == before.next
    assert rotated.next.startswith("sig_")
    assert rotated.next not in {before.current, before.next}
    assert broker.keys == rotated
