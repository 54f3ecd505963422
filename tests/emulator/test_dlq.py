"""The dead letter queue: retry, deletion, expiry."""

from __future__ import annotations

from hookmill.emulator.filters import Filter
from hookmill.emulator.models import AttemptResult
from tests.emulator.brokers import BROKEN, OK, TimedBroker


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
