"""Queues: in order, so many at a time; retries and callbacks hold up the next."""

from __future__ import annotations

import pytest

from hookmill.emulator.filters import Filter
from hookmill.emulator.models import ApiError, CallbackTarget
from tests.emulator.brokers import BROKEN, OK, TimedBroker


def urls(count: int) -> list[str]:
    return [f"http://{number}.example/" for number in range(count)]


def test_one_after_another_in_the_order_of_arrival() -> None:
    timed = TimedBroker()
    for url in urls(3):
        timed.publish(url, queue="q")
    seen = [[one.url for one in timed.attempt(OK)] for _ in range(4)]
    assert seen == [[url] for url in urls(3)] + [[]]
    assert timed.broker.queues.lag("q") == 0


def test_the_next_one_waits_for_the_retries_of_the_first_until_it_is_given_up() -> None:
    timed = TimedBroker()
    for url in urls(2):
        timed.publish(url, queue="q", retries=1)
    first, second = urls(2)
    assert [one.url for one in timed.attempt(BROKEN)] == [first]
    assert timed.start() == []
    timed.skip()
    assert [one.url for one in timed.attempt(BROKEN)] == [first]
    assert [one.url for one in timed.attempt(OK)] == [second]


def test_the_next_one_waits_for_the_callbacks_of_the_first_and_their_retries() -> None:
    timed = TimedBroker()
    report = CallbackTarget("http://cb.example/", retries=1)
    for url in urls(2):
        timed.publish(url, queue="q", callback=report)
    timed.attempt(OK)
    assert [one.url for one in timed.attempt(BROKEN)] == ["http://cb.example/"]
    assert timed.start() == []
    timed.skip()
    assert [one.url for one in timed.attempt(BROKEN)] == ["http://cb.example/"]
    assert [one.url for one in timed.start()] == [urls(2)[1]]


def test_parallelism_lets_so_many_begin_and_holds_the_places_of_callbacks() -> None:
    timed = TimedBroker()
    timed.broker.queues.upsert("q", parallelism=2)
    for url in urls(4):
        timed.publish(url, queue="q", callback=CallbackTarget("http://cb.example/"))
    one, two, three, four = urls(4)
    begun = timed.start()
    assert [message.url for message in begun] == [one, two]
    timed.broker.finish_attempt(begun[0], OK)
    (callback,) = timed.start()
    assert callback.url == "http://cb.example/"
    timed.broker.finish_attempt(callback, OK)
    assert [message.url for message in timed.start()] == [three]
    assert four in [message.url for message in timed.state.messages.all()]


def test_queues_do_not_wait_for_each_other_and_a_paused_one_waits() -> None:
    timed = TimedBroker()
    timed.broker.queues.upsert("paused", is_paused=True)
    for queue in ("a", "b", "paused"):
        timed.publish(f"http://{queue}.example/", queue=queue)
    assert [one.queue for one in timed.attempt(OK)] == ["a", "b"]
    timed.broker.queues.upsert("paused", is_paused=False)
    assert [one.queue for one in timed.attempt(OK)] == ["paused"]


def test_a_queue_is_there_from_its_first_message_on_and_can_be_removed() -> None:
    timed = TimedBroker()
    timed.publish(queue="q")
    assert [queue.name for queue in timed.broker.queues.all()] == ["q"]
    assert timed.broker.queues.get("q").parallelism == 1
    timed.broker.queues.drop("q")
    with pytest.raises(ApiError, match="queue 'q' not found"):
        timed.broker.queues.get("q")
    assert timed.start() == []
    timed.publish(queue="q")
    assert len(timed.attempt(OK)) == 1
    assert len(timed.attempt(OK)) == 1


def test_a_parallelism_of_nothing_is_refused() -> None:
    with pytest.raises(ApiError, match="1 or more"):
        TimedBroker().broker.queues.upsert("q", parallelism=0)


def test_a_cancelled_message_lets_the_next_one_go() -> None:
    timed = TimedBroker()
    first = timed.publish("http://0.example/", queue="q")
    second = timed.publish("http://1.example/", queue="q")
    timed.broker.cancel(Filter(message_ids=(first,)))
    assert [one.id for one in timed.start()] == [second]


def test_a_callback_that_is_taken_out_of_the_dlq_holds_up_no_queue() -> None:
    timed = TimedBroker()
    timed.publish(queue="q", callback=CallbackTarget("http://cb.example/", retries=0))
    timed.attempt(OK)
    timed.attempt(BROKEN)
    timed.broker.retry_from_dlq(Filter())
    second = timed.publish(queue="q")
    assert second in [one.id for one in timed.start()]
