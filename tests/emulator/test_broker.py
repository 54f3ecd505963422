"""The desk: what is published is delivered when its time has come, or lies in the DLQ."""

from __future__ import annotations

import base64
import json
from hashlib import sha256

import pytest

from hookmill.emulator import views
from hookmill.emulator.broker import MOST_LOGGED
from hookmill.emulator.models import (
    Answer,
    ApiError,
    Callback,
    Endpoint,
    Filter,
    FlowControl,
    Order,
    Template,
)
from tests.emulator.brokers import BROKEN, OK, Trial

BACKOFF = [12.182, 148.413, 1808.042, 22026.466, 86400.0, 86400.0]
"""e^(2.5 n) seconds, a day at most."""


def test_a_message_is_delivered_once_and_is_gone() -> None:
    trial = Trial()
    message_id = trial.publish(body=b"x")

    assert [one.id for one in trial.attempt(OK)] == [message_id]

    assert trial.begin() == []
    assert trial.desk.messages(Filter()) == []
    assert trial.states(message_id) == ["CREATED", "ACTIVE", "DELIVERED"]
    with pytest.raises(ApiError, match="not found") as caught:
        trial.desk.message(message_id)
    assert caught.value.status == 404


def test_it_is_tried_again_after_the_services_backoff_and_then_lies_in_the_dlq() -> None:
    trial = Trial()
    message_id = trial.publish(retries=6)
    waits = []
    for retried in range(7):
        (message,) = trial.attempt(BROKEN)
        assert (message.id, message.retried) == (message_id, retried)
        if retried < 6:
            waits.append(trial.skip())

    assert waits == pytest.approx(BACKOFF, abs=0.002)
    (letter,) = trial.desk.dead_letters(Filter())
    assert letter.message.id == message_id
    assert letter.answer == BROKEN
    assert trial.states(message_id)[-2:] == ["ERROR", "FAILED"]
    assert trial.desk.messages(Filter()) == []


def test_the_time_scale_shortens_every_wait() -> None:
    trial = Trial(scale=0.01)
    trial.publish(delay_ms=50_000, retries=1)
    assert trial.begin() == []
    assert trial.skip() == pytest.approx(0.5)
    trial.attempt(BROKEN)
    assert trial.skip() == pytest.approx(0.121, abs=0.002)
    trial.publish(not_before_ms=round(trial.now * 1000) + 100_000)
    trial.attempt(OK)
    assert trial.skip() == pytest.approx(1.0)


def test_not_before_goes_before_the_delay_and_one_that_has_passed_is_now() -> None:
    trial = Trial()
    trial.publish(delay_ms=5000, not_before_ms=round(trial.now * 1000) + 60_000)
    assert trial.skip() == pytest.approx(60)
    passed = trial.publish(not_before_ms=1000)
    assert passed in [one.id for one in trial.begin()]


@pytest.mark.parametrize("status", [100, 199, 300, 302, 404, 489, 500])
def test_whatever_is_not_a_2xx_is_tried_again(status: int) -> None:
    trial = Trial()
    trial.publish()
    trial.attempt(Answer(status))
    assert trial.skip() == pytest.approx(BACKOFF[0], abs=0.002)


@pytest.mark.parametrize("value", ["true", "TRUE"])
def test_489_with_its_header_goes_to_the_dlq_at_once(value: str) -> None:
    trial = Trial()
    message_id = trial.publish()
    trial.attempt(Answer(489, (("upstash-nonretryable-error", value),)))
    assert [one.message.id for one in trial.desk.dead_letters(Filter())] == [message_id]
    assert trial.desk.begin(9).look_again_ms is None


def test_no_retries_means_one_attempt() -> None:
    trial = Trial()
    trial.publish(retries=0)
    trial.attempt(BROKEN)
    assert len(trial.desk.dead_letters(Filter())) == 1


def test_the_same_deduplication_id_is_accepted_once_in_ten_minutes() -> None:
    trial = Trial()
    order = Order("http://a.example/", Template(), deduplication_id="d1")
    (first,) = trial.desk.publish(order)
    trial.attempt(OK)
    trial.now += 599
    (second,) = trial.desk.publish(order)
    assert (second.message_id, second.is_duplicate) == (first.message_id, True)
    assert trial.begin() == []

    trial.now += 2
    (third,) = trial.desk.publish(order)
    assert not third.is_duplicate
    assert third.message_id != first.message_id
    trial.now += 601
    trial.attempt(OK)
    assert len(trial.state.remembered) == 0, "what no longer counts is forgotten"


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
    trial = Trial()
    fields: dict[str, object] = {"body": b"x", "headers": (("Content-Type", "application/json"),)}

    def publish(url: str, **changed: object) -> bool:
        template = Template(**{**fields, **changed})  # type: ignore[arg-type]
        order = Order(url, template, is_deduplicated_by_content=True)
        return trial.desk.publish(order)[0].is_duplicate

    assert not publish("http://a.example/")
    assert publish("http://a.example/", **change) is is_duplicate
    assert not publish("http://b.example/")


def test_a_url_group_gets_a_message_for_each_endpoint() -> None:
    trial = Trial()
    trial.desk.topics.add(
        "site", [Endpoint("http://a.example/", "a"), Endpoint("http://b.example/")]
    )
    receipts = trial.desk.publish(Order("site", Template()))
    assert [one.url for one in receipts] == ["http://a.example/", "http://b.example/"]
    assert len({one.message_id for one in receipts}) == 2
    assert [(one.topic, one.endpoint) for one in trial.begin()] == [("site", "a"), ("site", "")]
    with pytest.raises(ApiError, match="'other' not found"):
        trial.desk.publish(Order("other", Template()))


def test_a_callback_tells_of_each_attempt_and_the_failure_callback_of_the_end() -> None:
    trial = Trial()
    report = Callback("http://cb.example/", headers=(("X-Mine", "1"),), method="PUT", retries=1)
    message_id = trial.publish(
        body=b"\xff\x00", headers=(("Content-Type", "text/plain"), ("X-A", "1"), ("X-A", "2")),
        retries=1, callback=report, failure_callback=Callback("http://dead.example/"),
    )  # fmt: skip
    trial.attempt(Answer(500, (("Server", "s"),), b"\xfe"))
    (first,) = trial.attempt(OK)
    trial.skip()
    trial.attempt(BROKEN)
    second, failure = trial.attempt(OK)

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
    (letter,) = trial.desk.dead_letters(Filter())
    assert json.loads(failure.template.body)["dlqId"] == letter.id


def test_a_callback_that_fails_is_tried_again_and_causes_no_callback() -> None:
    trial = Trial()
    trial.publish(callback=Callback("http://cb.example/", retries=1))
    trial.attempt(OK)
    trial.attempt(BROKEN)
    trial.skip()
    assert [one.retried for one in trial.attempt(BROKEN)] == [1]
    assert [one.message.url for one in trial.desk.dead_letters(Filter())] == ["http://cb.example/"]
    assert trial.desk.begin(9) == ([], None)


def test_a_dead_letter_published_again_has_a_new_id_and_all_its_attempts() -> None:
    trial = Trial()
    old = trial.publish(retries=0, body=b"x")
    trial.attempt(BROKEN)
    (letter,) = trial.desk.dead_letters(Filter())
    assert trial.desk.dead_letter(letter.id) == letter

    (receipt,) = trial.desk.retry_dead(Filter(dlq_ids=(letter.id,)))

    assert receipt.message_id != old
    assert trial.desk.dead_letters(Filter()) == []
    (message,) = trial.attempt(OK)
    assert (message.id, message.retried, message.template.body) == (receipt.message_id, 0, b"x")


def test_dead_letters_are_dropped_by_choice() -> None:
    trial = Trial()
    for url in ("http://a.example/", "http://b.example/"):
        trial.publish(url, retries=0, labels=("l",))
    trial.attempt(BROKEN, Answer(404))
    assert trial.desk.drop_dead(Filter(response_statuses=(404,))) == 1
    assert trial.desk.drop_dead(Filter(labels=("other",))) == 0
    assert trial.desk.drop_dead(Filter(from_ms=round(trial.now * 1000) + 1)) == 0
    assert trial.desk.drop_dead(Filter(urls=("http://a.example/",), labels=("l", "x"))) == 1


def test_what_is_cancelled_is_not_delivered_even_if_it_was_about_to_fail() -> None:
    trial = Trial()
    waiting, running = trial.publish(delay_ms=1000), trial.publish("http://b.example/")
    (message,) = trial.begin()
    assert message.id == running
    assert trial.desk.cancel(Filter(message_ids=(running, waiting, "msg_other"))) == 2
    trial.desk.settle(message, BROKEN)
    trial.now += 1
    assert trial.desk.begin(9) == ([], None)
    assert trial.desk.dead_letters(Filter()) == []
    assert trial.states(running) == ["CREATED", "ACTIVE", "CANCELED"]


def test_no_more_begin_than_there_is_room_for_and_none_is_forgotten() -> None:
    trial = Trial()
    ids = [trial.publish() for _ in range(5)]
    first = trial.begin(room=3)
    assert trial.desk.active == 3
    assert trial.begin(room=0) == []
    assert [one.id for one in [*first, *trial.begin(room=9)]] == ids


def test_the_keys_move_up_when_they_are_rotated() -> None:
    desk = Trial().desk
    before = desk.keys
    rotated = desk.rotate_keys()
    assert rotated.current == before.next
    assert rotated.next.startswith("sig_")
    assert rotated.next not in {before.current, before.next}
    assert desk.keys == rotated


def test_the_log_leaves_out_bodies_and_shows_what_was_to_be_redacted_as_its_hash() -> None:
    trial = Trial()
    trial.publish(body=b"secret", headers=(("X-A", "a"), ("X-B", "b")), redact=("header[X-A]",))
    trial.publish(headers=(("X-A", "a"),), redact=("header",))
    one, other = reversed(trial.desk.logs(Filter()))
    assert one.message.template.body == b""
    hidden = f"REDACTED:{sha256(b'a').hexdigest()}"
    shown = [views.log_entry(entry) for entry in (one, other)]
    assert [entry["header"] for entry in shown] == [
        {"X-A": [hidden], "X-B": ["b"]},
        {"X-A": [hidden]},
    ]


def test_the_log_is_chosen_by_message_state_and_time() -> None:
    trial = Trial()
    one = trial.publish()
    trial.attempt(OK)
    trial.now += 10
    trial.publish(labels=("l",))
    assert [e.state for e in trial.desk.logs(Filter(message_ids=(one,)))] == [
        "DELIVERED", "ACTIVE", "CREATED",
    ]  # fmt: skip
    assert len(trial.desk.logs(Filter(states=("CREATED",)))) == 2
    assert len(trial.desk.logs(Filter(from_ms=round(trial.now * 1000)))) == 1
    assert len(trial.desk.logs(Filter(to_ms=round(trial.now * 1000) - 1))) == 3
    assert len(trial.desk.logs(Filter(labels=("l",)))) == 1


@pytest.mark.parametrize(
    ("choice", "fits"),
    [
        (Filter(), True),
        (Filter(urls=("http://b.example/",)), False),
        (Filter(hosts=("a.example:81",)), True),
        (Filter(hosts=("a.example",)), False),
        (Filter(paths=("/x", "/p")), True),
        (Filter(paths=("/",)), False),
        (Filter(queues=("q",)), True),
        (Filter(queues=("q",), topics=("t",)), False),
        (Filter(flow_control_keys=("k",), caller_ips=("::1",)), True),
        (Filter(flow_control_keys=("other",)), False),
        (Filter(schedule_ids=("s",)), False),
        (Filter(caller_ips=("::2",)), False),
    ],
)
def test_a_filter_excludes_what_differs_in_one_field(choice: Filter, *, fits: bool) -> None:
    trial = Trial()
    trial.publish(
        "http://a.example:81/p?x", queue="q", caller_ip="::1", flow_control=FlowControl("k", 1)
    )
    assert bool(trial.desk.messages(choice)) is fits


def test_a_log_entry_holds_the_beginning_of_an_answer() -> None:
    trial = Trial()
    trial.publish(retries=0)
    trial.attempt(Answer(500, body=b"x" * 100_000))
    assert {len(one.answer.body) for one in trial.state.log if one.answer} == {MOST_LOGGED}
    assert len(trial.desk.dead_letters(Filter())[0].answer.body) == 100_000


def test_a_dead_letter_is_kept_for_three_days() -> None:
    trial = Trial()
    trial.publish(retries=0)
    trial.attempt(BROKEN)
    trial.now += 3 * 86_400 - 1
    trial.publish(retries=0)
    trial.attempt(BROKEN)
    assert len(trial.desk.dead_letters(Filter())) == 2
    trial.now += 1
    trial.begin()
    assert len(trial.desk.dead_letters(Filter())) == 1
