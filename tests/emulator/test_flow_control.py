"""Flow control: so many at a time, so many in a period, by key."""

from __future__ import annotations

import pytest

from hookmill.emulator import flow_control as gates_module
from hookmill.emulator.models import Filter, FlowControl
from tests.emulator.brokers import BROKEN, OK, Trial


def publish(trial: Trial, count: int, **limits: float) -> None:
    for _ in range(count):
        trial.publish(flow_control=FlowControl("k", **limits))  # type: ignore[arg-type]


def test_no_more_than_its_parallelism_are_under_way() -> None:
    trial = Trial()
    publish(trial, 5, parallelism=2)
    begun = trial.begin()
    assert len(begun) == 2
    assert (trial.desk.gates.active("k"), trial.desk.gates.waiting("k")) == (2, 3)
    trial.desk.settle(begun[0], OK)
    assert len(trial.begin()) == 1


def test_no_more_than_its_rate_begin_in_a_period() -> None:
    trial = Trial()
    publish(trial, 5, rate=2, period=10)
    assert len(trial.attempt(OK)) == 2
    assert len(trial.attempt(OK)) == 0
    assert trial.skip() == pytest.approx(10)
    assert len(trial.attempt(OK)) == 2
    trial.now += 25
    assert len(trial.attempt(OK)) == 1


def test_a_message_that_waits_for_its_retry_holds_no_place() -> None:
    trial = Trial()
    publish(trial, 2, parallelism=1)
    trial.attempt(BROKEN)
    assert len(trial.attempt(OK)) == 1


def test_keys_do_not_wait_for_each_other() -> None:
    trial = Trial()
    publish(trial, 2, parallelism=1)
    trial.publish(flow_control=FlowControl("other", 1))
    trial.publish()
    assert len(trial.begin()) == 3


def test_what_is_pinned_counts_whatever_messages_say() -> None:
    trial = Trial()
    trial.desk.gates.pin("k", parallelism=1)
    publish(trial, 3, parallelism=3)
    assert len(trial.begin()) == 1
    assert trial.desk.gates.get("k").parallelism == 1
    trial.desk.gates.pin("k", rate=1, period=60)
    trial.desk.gates.unpin("k", parallelism=True)
    assert trial.begin() == []
    trial.desk.gates.unpin("k", rate=True)
    assert len(trial.begin()) == 2


def test_a_paused_key_lets_nothing_begin_until_it_is_resumed() -> None:
    trial = Trial()
    trial.desk.gates.pause("k")
    publish(trial, 1, parallelism=1)
    assert trial.begin() == []
    trial.desk.gates.resume("k")
    assert len(trial.begin()) == 1


def test_a_new_period_can_be_begun_by_hand() -> None:
    trial = Trial()
    publish(trial, 2, rate=1, period=60)
    trial.attempt(OK)
    assert trial.begin() == []
    trial.desk.gates.reset("k")
    assert len(trial.begin()) == 1


def test_it_counts_in_queues_as_well() -> None:
    trial = Trial()
    trial.desk.queues.upsert("q", parallelism=5)
    for _ in range(3):
        trial.publish(queue="q", flow_control=FlowControl("k", parallelism=2))
    assert len(trial.begin()) == 2


def test_a_clock_that_goes_back_shuts_no_key() -> None:
    trial = Trial()
    publish(trial, 2, rate=1, period=10)
    assert len(trial.attempt(OK)) == 1
    trial.now -= 3600
    trial.desk.cancel(Filter())
    publish(trial, 2, rate=1, period=10)
    assert len(trial.attempt(OK)) == 1
    assert len(trial.attempt(OK)) == 0
    assert trial.skip() == pytest.approx(10)


def test_of_keys_without_messages_only_the_latest_and_those_somebody_set_are_known(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(gates_module, "MOST_IDLE", 3)
    trial = Trial()
    trial.desk.gates.pause("paused")
    trial.desk.gates.pin("pinned", rate=1)
    trial.publish(flow_control=FlowControl("waits", rate=1, period=60), delay_ms=10**6)
    for number in range(50):
        trial.publish(flow_control=FlowControl(f"k{number}", parallelism=1))
        trial.attempt(OK)
        trial.now += 1
    known = [gate.key for gate in trial.desk.gates.all()]
    assert {"paused", "pinned", "waits", "k49"} <= {*known}
    assert len(known) <= 3 + 2 * 3
