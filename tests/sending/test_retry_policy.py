"""When a sender tries again: what answers mean, how long it waits, and that nothing hostile in a
header makes it wait for ever.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from hookmill import RetryPolicy, Sender
from hookmill.errors import SettingsError
from hookmill.sending.exchange import HttpResponse, NoResponse
from hookmill.sending.retry_policy import decide, requested_wait

NOW = 1_800_000_000.0


def asked(**headers: str) -> float | None:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return requested_wait(CIMultiDict(named), NOW)


def date(moment: float) -> str:
    return format_datetime(datetime.fromtimestamp(moment, UTC), usegmt=True)


@pytest.mark.parametrize(
    ("headers", "wait"),
    [
        ({}, None),
        ({"Retry_After": "7"}, 7),
        ({"Retry_After": date(NOW + 30)}, 30),
        ({"Retry_After": "1m30s"}, 90),
        ({"Burst_RateLimit_Reset": str(int(NOW) + 1)}, 1),
        ({"Burst_RateLimit_Reset": str(int(NOW + 1) * 1000)}, 1),
        ({"Burst_RateLimit_Reset": "1"}, 1),
        ({"RateLimit_Reset": str(int(NOW) + 3600)}, 3600),
        ({"RateLimit_Reset": str(int(NOW) - 5)}, 0),
        # The limit that was reached counts, not the one beside it.
        (
            {"RateLimit_Reset": "9000", "RateLimit_Remaining": "12",
             "Burst_RateLimit_Reset": "1", "Burst_RateLimit_Remaining": "0"},
            1,
        ),
        (
            {"RateLimit_Reset": "9000", "RateLimit_Remaining": "0",
             "Burst_RateLimit_Reset": "1", "Burst_RateLimit_Remaining": "99"},
            9000,
        ),
        # Nothing of both is reached, as they say: the later one is safe.
        (
            {"RateLimit_Reset": "9", "RateLimit_Remaining": "5",
             "Burst_RateLimit_Reset": "1", "Burst_RateLimit_Remaining": "5"},
            9,
        ),
        # Our clock is an hour slow: the reset is a time of the server's clock.
        ({"RateLimit_Reset": str(int(NOW) + 3601), "Date": date(NOW + 3600)}, 1),
        ({"Retry_After": "soon"}, None),
        ({"Retry_After": ""}, None),
        ({"Retry_After": "-1"}, None),
        ({"Retry_After": "1" * 15}, None),
        ({"RateLimit_Reset": "nan", "Retry_After": "3"}, 3),
    ],
)  # fmt: skip
def test_a_limits_end_is_read_from_the_headers(headers: dict[str, str], wait: float | None) -> None:
    assert asked(**headers) == (None if wait is None else pytest.approx(wait, abs=0.001))


HEADER = st.sampled_from(["Retry-After", "RateLimit-Reset", "Burst-RateLimit-Reset", "Date",
                          "RateLimit-Remaining"])  # fmt: skip


@given(st.dictionaries(HEADER, st.text(max_size=20) | st.from_regex(r"[0-9hms.]{1,20}")))
def test_no_header_raises_or_asks_for_a_negative_or_endless_wait(given: dict[str, str]) -> None:
    wait = requested_wait(CIMultiDict(given), NOW)
    assert wait is None or 0 <= wait <= 400 * 86400


def follows(outcome: HttpResponse | NoResponse, patience: float = 60) -> tuple[str, bool]:
    decision = decide(outcome, patience, NOW)
    return decision.action, decision.may_have_counted


def said(status: int, **headers: str) -> HttpResponse:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return HttpResponse(status, CIMultiDict(named), b"")


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        (said(200), ("accept", False)),
        (said(202), ("accept", False)),
        (said(301), ("give up", False)),
        (said(400), ("give up", False)),
        (said(412), ("give up", False)),
        (said(499), ("give up", False)),
        (said(429), ("retry", False)),
        (said(429, Retry_After="60"), ("retry", False)),
        (said(429, Retry_After="61"), ("give up", False)),
        (said(500), ("retry", True)),
        (said(503, Retry_After="61"), ("give up", True)),
        (NoResponse("x"), ("retry", True)),
        (NoResponse("x", may_have_arrived=False), ("retry", False)),
        (NoResponse("x", is_final=True), ("give up", True)),
    ],
)
def test_what_follows_from_an_outcome(outcome: HttpResponse | NoResponse, expected: Any) -> None:
    assert follows(outcome) == expected


@given(
    st.integers(1, 10_000),
    st.floats(0, 1e6),
    st.floats(0, 1e6),
    st.none() | st.floats(0, 1e6),
)
def test_a_pause_is_the_requested_wait_and_a_random_time_up_to_the_bound(
    attempt: int, first: float, longest: float, wait: float | None
) -> None:
    pause = RetryPolicy(first_pause=first, longest_pause=longest).pause(attempt, wait)
    least = wait or 0.0
    bound = min(longest, first * 2.0 ** min(attempt - 1, 30))
    assert least <= pause <= least + bound


def test_pauses_differ_so_that_senders_do_not_retry_together() -> None:
    pauses = {RetryPolicy().pause(3, None) for _ in range(50)}
    assert len(pauses) > 40
    assert max(pauses) <= 2.0


@pytest.mark.parametrize("given", [{"attempts": 0}, {"total": 0}, {"connect": -1},
                                   {"patience": -1}, {"first_pause": float("nan")},
                                   {"total": math.inf}, {"connect": math.inf}, {"attempts": 2.5},
                                   {"attempts": "3"}, {"attempts": True}])  # fmt: skip
def test_an_impossible_retry_policy_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match=f"RetryPolicy: {next(iter(given))}"):
        RetryPolicy(**given)


def test_the_old_name_gives_an_error_that_names_the_new_one() -> None:
    with pytest.raises(ImportError, match=r"Persistence is now called hookmill\.RetryPolicy"):
        from hookmill import Persistence  # noqa: F401, PLC0415 - the import is what fails
    with pytest.raises(TypeError, match="persistence"):
        Sender(direct=True, persistence=RetryPolicy())  # type: ignore[call-arg] # the old name
