"""What a handler is given and may raise, and how long a retry waits."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hookmill import Backoff, Delivery, Discard, HookmillError, Retry
from hookmill.errors import HandlersError
from hookmill.handlers import MAX_DELAY
from tests.handled import OrderPaid
from tests.support import message


def test_a_delivery_shows_its_id_its_event_and_its_attempt_but_not_the_body() -> None:
    raw = message(b"a secret", id="msg_1", type="order.paid")
    delivery = Delivery(OrderPaid(order_id="A"), raw, 3)

    assert (delivery.id, delivery.attempt, delivery.event.order_id) == ("msg_1", 3, "A")
    assert delivery.message is raw
    assert repr(delivery) == "<Delivery msg_1 order.paid attempt 3>"


@pytest.mark.parametrize(
    ("after", "seconds"),
    [(0, 0.0), (60, 60.0), (0.5, 0.5), (timedelta(minutes=2), 120.0), (MAX_DELAY, 31_622_400.0)],
)
def test_retry_waits_for_seconds_or_a_timedelta(after: float | timedelta, seconds: float) -> None:
    assert Retry(after=after).after == seconds


def test_retry_waits_half_a_minute_by_default() -> None:
    asked = Retry()

    assert (asked.after, asked.reason, str(asked)) == (30.0, "", "asked to wait 30 s")
    assert str(Retry(5, "mailer is down")) == "mailer is down"


@pytest.mark.parametrize(
    "after", [-1, -0.001, MAX_DELAY + 1, float("inf"), float("nan"), timedelta(seconds=-1)]
)
def test_a_retry_in_the_past_or_beyond_the_limit_is_refused(after: float | timedelta) -> None:
    with pytest.raises(ValueError, match="give 0 to 31622400 seconds"):
        Retry(after=after)


def test_retry_and_discard_are_not_hookmill_errors_and_show_their_reason() -> None:
    assert not isinstance(Retry(), HookmillError)
    assert not isinstance(Discard("x"), HookmillError)
    assert (Discard("not for us").reason, str(Discard("not for us"))) == (
        "not for us",
        "not for us",
    )


def test_the_default_backoff_is_the_documented_one() -> None:
    bounds = [Backoff().bound(failures) for failures in range(1, 10)]

    assert bounds == [2.0, 6.0, 18.0, 54.0, 162.0, 486.0, 1458.0, 3600.0, 3600.0]


BACKOFFS = st.builds(
    Backoff,
    first=st.floats(0, 1e308),
    factor=st.floats(1, 1e308) | st.integers(1, 10**400),
    ceiling=st.floats(0, MAX_DELAY) | st.integers(0, MAX_DELAY),
)
FAILURES = st.integers(1, 5000)


@given(BACKOFFS, FAILURES)
def test_a_wait_is_never_below_zero_nor_above_its_bound_nor_the_ceiling(
    backoff: Backoff, failures: int
) -> None:
    assert 0 <= backoff.wait(failures) <= backoff.bound(failures) <= backoff.ceiling


@given(BACKOFFS, FAILURES)
def test_the_bound_never_falls_with_more_failures(backoff: Backoff, failures: int) -> None:
    assert backoff.bound(failures) <= backoff.bound(failures + 1)


@given(st.floats(1, 1e308), FAILURES)
def test_a_backoff_that_begins_at_zero_never_waits(factor: float, failures: int) -> None:
    assert Backoff(first=0, factor=factor).wait(failures) == 0


def test_waits_are_spread_over_the_whole_of_their_bound() -> None:
    waits = [Backoff(first=10).wait(1) for _ in range(1000)]

    assert min(waits) < 1
    assert max(waits) > 9


@pytest.mark.parametrize(
    "fields",
    [
        {"first": -1},
        {"first": float("nan")},
        {"factor": 0.5},
        {"factor": float("nan")},
        {"ceiling": -1},
        {"ceiling": float("nan")},
        {"ceiling": float("inf")},
        {"ceiling": MAX_DELAY + 1},
    ],
)
def test_a_backoff_with_impossible_numbers_is_refused(fields: dict[str, float]) -> None:
    with pytest.raises(
        HandlersError, match="give first of 0 or more, factor of 1 or more, and ceiling"
    ):
        Backoff(**fields)
