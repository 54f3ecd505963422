"""Queues: in order, so many at a time; retries and callbacks hold up the next."""

from __future__ import annotations

import pytest

from hookmill.emulator.models import ApiError, Callback, Filter
from tests.emulator.brokers import BROKEN, OK, Trial


def urls(count: int) -> list[str]:
    return [f"http://{number}.example/" for number in range(count)]


def test_one_after_another_in_the_order_of_arrival() -> None:
    trial = Trial()
    for url in urls(3):
        trial.publish(url, queue="q")
    seen = [[one.url for one in trial.attempt(OK)] for _ in range(4)]
    assert seen == [[url] for url in urls(3)] + [[]]
    assert trial.desk.queues.lag("q") == 0


def test_the_next_one_waits_for_the_retries_of_the_first_until_it_is_given_up() -> None:
    trial = Trial()
    for url in urls(2):
        trial.publish(url, queue="q", retries=1)
    first, second = urls(2)
    assert [one.url for one in trial.attempt(BROKEN)] == [first]
    assert trial.begin() == []
    trial.skip()
    assert [one.url for one in trial.attempt(BROKEN)] == [first]
    assert [one.url for one in trial.attempt(OK)] == [second]


def test_the_next_one_waits_for_the_callbacks_of_the_first_and_their_retries() -> None:
    trial = Trial()
    report = Callback("http://cb.example/", retries=1)
    for url in urls(2):
        trial.publish(url, queue="q", callback=report)
    trial.attempt(OK)
    assert [one.url for one in trial.attempt(BROKEN)] == ["http://cb.example/"]
    assert trial.begin() == []
    trial.skip()
    assert [one.url for one in trial.attempt(BROKEN)] == ["http://cb.example/"]
    assert [one.url for one in trial.begin()] == [urls(2)[1]]


def test_parallelism_lets_so_many_begin_and_holds_the_places_of_callbacks() -> None:
    trial = Trial()
    trial.desk.queues.upsert("q", parallelism=2)
    for url in urls(4):
        trial.publish(url, queue="q", callback=Callback("http://cb.example/"))
    one, two, three, four = urls(4)
    begun = trial.begin()
    assert [message.url for message in begun] == [one, two]
    trial.desk.settle(begun[0], OK)
    (callback,) = trial.begin()
    assert callback.url == "http://cb.example/"
    trial.desk.settle(callback, OK)
    assert [message.url for message in trial.begin()] == [three]
    assert four in [message.url for message in trial.state.messages.all()]


def test_queues_do_not_wait_for_each_other_and_a_paused_one_waits() -> None:
    trial = Trial()
    trial.desk.queues.upsert("paused", is_paused=True)
    for queue in ("a", "b", "paused"):
        trial.publish(f"http://{queue}.example/", queue=queue)
    assert [one.queue for one in trial.attempt(OK)] == ["a", "b"]
    trial.desk.queues.upsert("paused", is_paused=False)
    assert [one.queue for one in trial.attempt(OK)] == ["paused"]


def test_a_queue_is_there_from_its_first_message_on_and_can_be_removed() -> None:
    trial = Trial()
    trial.publish(queue="q")
    assert [queue.name for queue in trial.desk.queues.all()] == ["q"]
    assert trial.desk.queues.get("q").parallelism == 1
    trial.desk.queues.drop("q")
    with pytest.raises(ApiError, match="queue 'q' not found"):
        trial.desk.queues.get("q")
    assert trial.begin() == []
    trial.publish(queue="q")
    assert len(trial.attempt(OK)) == 1
    assert len(trial.attempt(OK)) == 1


def test_a_parallelism_of_nothing_is_refused() -> None:
    with pytest.raises(ApiError, match="1 or more"):
        Trial().desk.queues.upsert("q", parallelism=0)


def test_a_cancelled_message_lets_the_next_one_go() -> None:
    trial = Trial()
    first = trial.publish("http://0.example/", queue="q")
    second = trial.publish("http://1.example/", queue="q")
    trial.desk.cancel(Filter(message_ids=(first,)))
    assert [one.id for one in trial.begin()] == [second]


def test_a_callback_that_is_taken_out_of_the_dlq_holds_up_no_queue() -> None:
    trial = Trial()
    trial.publish(queue="q", callback=Callback("http://cb.example/", retries=0))
    trial.attempt(OK)
    trial.attempt(BROKEN)
    trial.desk.retry_dead(Filter())
    second = trial.publish(queue="q")
    assert second in [one.id for one in trial.begin()]
