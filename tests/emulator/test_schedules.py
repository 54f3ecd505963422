"""Schedules publish at their times."""

from __future__ import annotations

import pytest

from hookmill.emulator.models import ApiError, Order, Template
from tests.emulator.brokers import BROKEN, OK, Trial

ORDER = Order("http://a.example/", Template(retries=0))


def test_it_publishes_at_each_of_its_times_and_tells_how_that_ended() -> None:
    trial = Trial()
    made = trial.desk.schedules.put(ORDER, "* * * * *")
    for expected, answer in (("SUCCESS", OK), ("FAIL", BROKEN)):
        assert trial.begin() == []
        trial.skip()
        (message,) = trial.begin()
        assert message.schedule_id == made.id
        state = trial.desk.schedules.get(made.id)
        assert state.last_states == {message.id: "IN_PROGRESS"}
        assert state.last_ms == round(trial.now * 1000)
        assert state.next_ms == state.last_ms + 60_000
        trial.desk.settle(message, answer)
        assert trial.desk.schedules.get(made.id).last_states == {message.id: expected}


def test_times_that_passed_unseen_are_made_up_for_once() -> None:
    trial = Trial()
    trial.desk.schedules.put(ORDER, "* * * * *")
    trial.now += 3600
    assert len(trial.attempt(OK)) == 1
    assert len(trial.attempt(OK)) == 0


def test_a_paused_one_publishes_nothing_and_goes_on_with_its_next_time() -> None:
    trial = Trial()
    made = trial.desk.schedules.put(ORDER, "* * * * *")
    trial.desk.schedules.pause(made.id)
    trial.now += 3600
    assert trial.begin() == []
    trial.desk.schedules.resume(made.id)
    assert trial.begin() == []
    trial.skip()
    assert len(trial.begin()) == 1


def test_the_same_id_replaces_it_and_it_can_be_removed() -> None:
    trial = Trial()
    made = trial.desk.schedules.put(ORDER, "* * * * *", "mine")
    trial.now += 1
    again = trial.desk.schedules.put(ORDER, "0 0 * * *", "mine")
    assert (again.id, again.created_ms) == ("mine", made.created_ms)
    assert trial.desk.schedules.all() == [again]
    trial.desk.schedules.drop("mine")
    for act in (trial.desk.schedules.get, trial.desk.schedules.drop, trial.desk.schedules.pause):
        with pytest.raises(ApiError, match="schedule 'mine' not found"):
            act("mine")


def test_one_whose_url_group_is_gone_says_so_and_goes_on() -> None:
    trial = Trial()
    made = trial.desk.schedules.put(Order("site", Template()), "* * * * *")
    trial.skip()
    assert trial.begin() == []
    assert trial.desk.schedules.get(made.id).error == "topic 'site' not found"
    assert trial.desk.schedules.get(made.id).next_ms > trial.now * 1000


def test_what_is_no_cron_expression_makes_no_schedule() -> None:
    trial = Trial()
    with pytest.raises(ApiError, match="cron"):
        trial.desk.schedules.put(ORDER, "often")
    assert trial.desk.schedules.all() == []
