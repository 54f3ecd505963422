"""Flow control: so many at a time, so many in a period, by key."""

from __future__ import annotations

import pytest

from hookmill.emulator import flow_control as gates_module
from hookmill.emulator.filters import Filter
from hookmill.emulator.models import FlowLimits
from tests.emulator.brokers import BROKEN, OK, TimedBroker


def publish(timed: TimedBroker, count: int, **limits: float) -> None:
    for _ in range(count):
        timed.publish(flow_control=FlowLimits("k", **limits))  # type: ignore[arg-type]


def test_no_more_than_its_parallelism_are_under_way() -> None:
    timed = TimedBroker()
    publish(timed, 5, parallelism=2)
    begun = timed.start()
    assert len(begun) == 2
    assert (timed.broker.flow_controls.active("k"), timed.broker.flow_controls.waiting("k")) == (
        2,
        3,
    )
    timed.broker.finish_attempt(begun[0], OK)
    assert len(timed.start()) == 1


def test_no_more_than_its_rate_begin_in_a_period() -> None:
    timed = TimedBroker()
    publish(timed, 5, rate=2, period=10)
    assert len(timed.attempt(OK)) == 2
    assert len(timed.attempt(OK)) == 0
    assert timed.skip() == pytest.approx(10)
    assert len(timed.attempt(OK)) == 2
    timed.now += 25
    assert len(timed.attempt(OK)) == 1


def test_a_message_that_waits_for_its_retry_holds_no_place() -> None:
    timed = TimedBroker()
    publish(timed, 2, parallelism=1)
    timed.attempt(BROKEN)
    assert len(timed.attempt(OK)) == 1


def test_keys_do_not_wait_for_each_other() -> None:
    timed = TimedBroker()
    publish(timed, 2, parallelism=1)
    timed.publish(flow_control=FlowLimits("other", 1))
    timed.publish()
    assert len(timed.start()) == 3


def test_what_is_pinned_counts_whatever_messages_say() -> None:
    timed = TimedBroker()
    timed.broker.flow_controls.pin("k", parallelism=1)
    publish(timed, 3, parallelism=3)
    assert len(timed.start()) == 1
    assert timed.broker.flow_controls.get("k").parallelism == 1
    timed.broker.flow_controls.pin("k", rate=1, period=60)
    timed.broker.flow_controls.unpin("k", parallelism=True)
    assert timed.start() == []
    timed.broker.flow_controls.unpin("k", rate=True)
    assert len(timed.start()) == 2


def test_a_paused_key_lets_nothing_begin_until_it_is_resumed() -> None:
    timed = TimedBroker()
    timed.broker.flow_controls.pause("k")
    publish(timed, 1, parallelism=1)
    assert timed.start() == []
    timed.broker.flow_controls.resume("k")
    assert len(timed.start()) == 1


def test_a_new_period_can_be_begun_by_hand() -> None:
    timed = TimedBroker()
    publish(timed, 2, rate=1, period=60)
    timed.attempt(OK)
    assert timed.start() == []
    timed.broker.flow_controls.reset("k")
    assert len(timed.start()) == 1


def test_it_counts_in_queues_as_well() -> None:
    timed = TimedBroker()
    timed.broker.queues.upsert("q", parallelism=5)
    for _ in range(3):
        timed.publish(queue="q", flow_control=FlowLimits("k", parallelism=2))
    assert len(timed.start()) == 2


def test_a_clock_that_goes_back_shuts_no_key() -> None:
    timed = TimedBroker()
    publish(timed, 2, rate=1, period=10)
    assert len(timed.attempt(OK)) == 1
    timed.now -= 3600
    timed.broker.cancel(Filter())
    publish(timed, 2, rate=1, period=10)
    assert len(timed.attempt(OK)) == 1
    assert len(timed.attempt(OK)) == 0
    assert timed.skip() == pytest.approx(10)


def test_of_keys_without_messages_only_the_latest_and_those_somebody_set_are_known(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(gates_module, "MAX_IDLE_KEYS", 3)
    timed = TimedBroker()
    timed.broker.flow_controls.pause("paused")
    timed.broker.flow_controls.pin("pinned", rate=1)
    timed.publish(flow_control=FlowLimits("waits", rate=1, period=60), delay_ms=10**6)
    for number in range(50):
        timed.publish(flow_control=FlowLimits(f"k{number}", parallelism=1))
        timed.attempt(OK)
        timed.now += 1
    known = [one.key for one in timed.broker.flow_controls.all()]
    assert {"paused", "pinned", "waits", "k49"} <= {*known}
    assert len(known) <= 3 + 2 * 3
