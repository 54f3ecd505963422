"""Schedules publish at their times."""

from __future__ import annotations

import pytest

from hookmill.emulator.models import ApiError, PublishRequest, Template
from tests.emulator.brokers import BROKEN, OK, TimedBroker

ORDER = PublishRequest("http://a.example/", Template(retries=0))


def test_it_publishes_at_each_of_its_times_and_tells_how_that_ended() -> None:
    timed = TimedBroker()
    made = timed.broker.schedules.put(ORDER, "* * * * *")
    for expected, answer in (("SUCCESS", OK), ("FAIL", BROKEN)):
        assert timed.start() == []
        timed.skip()
        (message,) = timed.start()
        assert message.schedule_id == made.id
        state = timed.broker.schedules.get(made.id)
        assert state.last_states == {message.id: "IN_PROGRESS"}
        assert state.last_ms == round(timed.now * 1000)
        assert state.next_ms == state.last_ms + 60_000
        timed.broker.finish_attempt(message, answer)
        assert timed.broker.schedules.get(made.id).last_states == {message.id: expected}


def test_times_that_passed_unseen_are_made_up_for_once() -> None:
    timed = TimedBroker()
    timed.broker.schedules.put(ORDER, "* * * * *")
    timed.now += 3600
    assert len(timed.attempt(OK)) == 1
    assert len(timed.attempt(OK)) == 0


def test_a_paused_one_publishes_nothing_and_goes_on_with_its_next_time() -> None:
    timed = TimedBroker()
    made = timed.broker.schedules.put(ORDER, "* * * * *")
    timed.broker.schedules.pause(made.id)
    timed.now += 3600
    assert timed.start() == []
    timed.broker.schedules.resume(made.id)
    assert timed.start() == []
    timed.skip()
    assert len(timed.start()) == 1


def test_the_same_id_replaces_it_and_it_can_be_removed() -> None:
    timed = TimedBroker()
    made = timed.broker.schedules.put(ORDER, "* * * * *", "mine")
    timed.now += 1
    again = timed.broker.schedules.put(ORDER, "0 0 * * *", "mine")
    assert (again.id, again.created_ms) == ("mine", made.created_ms)
    assert timed.broker.schedules.all() == [again]
    timed.broker.schedules.drop("mine")
    for act in (
        timed.broker.schedules.get,
        timed.broker.schedules.drop,
        timed.broker.schedules.pause,
    ):
        with pytest.raises(ApiError, match="schedule 'mine' not found"):
            act("mine")


def test_a_schedule_whose_url_group_is_deleted_has_an_error_and_continues() -> None:
    timed = TimedBroker()
    made = timed.broker.schedules.put(PublishRequest("site", Template()), "* * * * *")
    timed.skip()
    assert timed.start() == []
    assert timed.broker.schedules.get(made.id).error == "URL group 'site' not found"
    assert timed.broker.schedules.get(made.id).next_ms > timed.now * 1000


def test_what_is_no_cron_expression_makes_no_schedule() -> None:
    timed = TimedBroker()
    with pytest.raises(ApiError, match="cron"):
        timed.broker.schedules.put(ORDER, "often")
    assert timed.broker.schedules.all() == []
