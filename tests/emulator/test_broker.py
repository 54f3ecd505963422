"""The broker: what is published is delivered when its time has come, or lies in the DLQ."""

from __future__ import annotations

import base64
import json
from hashlib import sha256

import pytest

from hookmill.emulator import views
from hookmill.emulator.filters import Filter
from hookmill.emulator.message_log import MAX_LOGGED_BYTES
from hookmill.emulator.models import (
    ApiError,
    AttemptResult,
    CallbackTarget,
    Endpoint,
    FlowLimits,
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


def test_it_is_tried_again_after_the_services_backoff_and_then_lies_in_the_dlq() -> None:
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


def test_not_before_goes_before_the_delay_and_one_that_has_passed_is_now() -> None:
    timed = TimedBroker()
    timed.publish(delay_ms=5000, not_before_ms=round(timed.now * 1000) + 60_000)
    assert timed.skip() == pytest.approx(60)
    passed = timed.publish(not_before_ms=1000)
    assert passed in [one.id for one in timed.start()]


@pytest.mark.parametrize("status", [100, 199, 300, 302, 404, 489, 500])
def test_whatever_is_not_a_2xx_is_tried_again(status: int) -> None:
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


def test_the_same_deduplication_id_is_accepted_once_in_ten_minutes() -> None:
    timed = TimedBroker()
    request = PublishRequest("http://a.example/", Template(), deduplication_id="d1")
    (first,) = timed.broker.publish(request)
    timed.attempt(OK)
    timed.now += 599
    (second,) = timed.broker.publish(request)
    assert (second.message_id, second.is_duplicate) == (first.message_id, True)
    assert timed.start() == []

    timed.now += 2
    (third,) = timed.broker.publish(request)
    assert not third.is_duplicate
    assert third.message_id != first.message_id
    timed.now += 601
    timed.attempt(OK)
    assert len(timed.state.deduplications) == 0, "what no longer counts is forgotten"


@pytest.mark.parametrize(
    ("change", "is_duplicate"),
    [
        ({}, True),
        ({"body": b"other"}, False),
        ({"headers": (("Content-Type", "text/plain"),)}, False),
        ({"retries": 1}, True),
    ],
)
def test_by_content_means_destination_body_and_headers(
    change: dict[str, object], is_duplicate: bool
) -> None:
    timed = TimedBroker()
    fields: dict[str, object] = {"body": b"x", "headers": (("Content-Type", "application/json"),)}

    def publish(url: str, **changed: object) -> bool:
        template = Template(**{**fields, **changed})  # type: ignore[arg-type]
        request = PublishRequest(url, template, is_deduplicated_by_content=True)
        return timed.broker.publish(request)[0].is_duplicate

    assert not publish("http://a.example/")
    assert publish("http://a.example/", **change) is is_duplicate
    assert not publish("http://b.example/")


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


def test_a_callback_tells_of_each_attempt_and_the_failure_callback_of_the_end() -> None:
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


def test_a_callback_that_fails_is_tried_again_and_causes_no_callback() -> None:
    timed = TimedBroker()
    timed.publish(callback=CallbackTarget("http://cb.example/", retries=1))
    timed.attempt(OK)
    timed.attempt(BROKEN)
    timed.skip()
    assert [one.retried for one in timed.attempt(BROKEN)] == [1]
    assert [one.message.url for one in timed.broker.dlq.find(Filter())] == ["http://cb.example/"]
    assert timed.broker.start_attempts(9) == ([], None)


def test_a_dlq_message_published_again_has_a_new_id_and_all_its_attempts() -> None:
    timed = TimedBroker()
    old = timed.publish(retries=0, body=b"x")
    timed.attempt(BROKEN)
    (in_dlq,) = timed.broker.dlq.find(Filter())
    assert timed.broker.dlq.get(in_dlq.id) == in_dlq

    (receipt,) = timed.broker.retry_from_dlq(Filter(dlq_ids=(in_dlq.id,)))

    assert receipt.message_id != old
    assert timed.broker.dlq.find(Filter()) == []
    (message,) = timed.attempt(OK)
    assert (message.id, message.retried, message.template.body) == (receipt.message_id, 0, b"x")


def test_a_filter_chooses_what_is_deleted_from_the_dlq() -> None:
    timed = TimedBroker()
    for url in ("http://a.example/", "http://b.example/"):
        timed.publish(url, retries=0, labels=("l",))
    timed.attempt(BROKEN, AttemptResult(404))
    assert timed.broker.dlq.delete(Filter(response_statuses=(404,))) == 1
    assert timed.broker.dlq.delete(Filter(labels=("other",))) == 0
    assert timed.broker.dlq.delete(Filter(from_ms=round(timed.now * 1000) + 1)) == 0
    assert timed.broker.dlq.delete(Filter(urls=("http://a.example/",), labels=("l", "x"))) == 1


def test_what_is_cancelled_is_not_delivered_even_if_it_was_about_to_fail() -> None:
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


def test_no_more_begin_than_there_is_room_for_and_none_is_forgotten() -> None:
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


def test_the_log_leaves_out_bodies_and_shows_what_was_to_be_redacted_as_its_hash() -> None:
    timed = TimedBroker()
    timed.publish(body=b"secret", headers=(("X-A", "a"), ("X-B", "b")), redact=("header[X-A]",))
    timed.publish(headers=(("X-A", "a"),), redact=("header",))
    one, other = reversed(timed.broker.log.find(Filter()))
    assert one.message.template.body == b""
    hidden = f"REDACTED:{sha256(b'a').hexdigest()}"
    shown = [views.log_entry(entry) for entry in (one, other)]
    assert [entry["header"] for entry in shown] == [
        {"X-A": [hidden], "X-B": ["b"]},
        {"X-A": [hidden]},
    ]


def test_the_log_is_chosen_by_message_state_and_time() -> None:
    timed = TimedBroker()
    one = timed.publish()
    timed.attempt(OK)
    timed.now += 10
    timed.publish(labels=("l",))
    assert [e.state for e in timed.broker.log.find(Filter(message_ids=(one,)))] == [
        "DELIVERED", "ACTIVE", "CREATED",
    ]  # fmt: skip
    assert len(timed.broker.log.find(Filter(states=("CREATED",)))) == 2
    assert len(timed.broker.log.find(Filter(from_ms=round(timed.now * 1000)))) == 1
    assert len(timed.broker.log.find(Filter(to_ms=round(timed.now * 1000) - 1))) == 3
    assert len(timed.broker.log.find(Filter(labels=("l",)))) == 1


@pytest.mark.parametrize(
    ("wanted", "fits"),
    [
        (Filter(), True),
        (Filter(urls=("http://b.example/",)), False),
        (Filter(hosts=("a.example:81",)), True),
        (Filter(hosts=("a.example",)), False),
        (Filter(paths=("/x", "/p")), True),
        (Filter(paths=("/",)), False),
        (Filter(queues=("q",)), True),
        (Filter(queues=("q",), url_groups=("t",)), False),
        (Filter(flow_control_keys=("k",), caller_ips=("::1",)), True),
        (Filter(flow_control_keys=("other",)), False),
        (Filter(schedule_ids=("s",)), False),
        (Filter(caller_ips=("::2",)), False),
    ],
)
def test_a_filter_excludes_what_differs_in_one_field(wanted: Filter, *, fits: bool) -> None:
    timed = TimedBroker()
    timed.publish(
        "http://a.example:81/p?x", queue="q", caller_ip="::1", flow_control=FlowLimits("k", 1)
    )
    assert bool(timed.broker.messages(wanted)) is fits


def test_a_log_entry_holds_the_beginning_of_an_answer() -> None:
    timed = TimedBroker()
    timed.publish(retries=0)
    timed.attempt(AttemptResult(500, body=b"x" * 100_000))
    assert {len(one.result.body) for one in timed.state.log if one.result} == {MAX_LOGGED_BYTES}
    assert len(timed.broker.dlq.find(Filter())[0].result.body) == 100_000


def test_a_dlq_message_is_kept_for_three_days() -> None:
    timed = TimedBroker()
    timed.publish(retries=0)
    timed.attempt(BROKEN)
    timed.now += 3 * 86_400 - 1
    timed.publish(retries=0)
    timed.attempt(BROKEN)
    assert len(timed.broker.dlq.find(Filter())) == 2
    timed.now += 1
    timed.start()
    assert len(timed.broker.dlq.find(Filter())) == 1
