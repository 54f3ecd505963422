"""How many unknown certificates are requested, and that each URL that waits is drawn in the end."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from receiver.certificate_budget import AT_ONCE, MOST_WAITING, PAUSE, CertificateBudget
from tests.support import Clock


@given(st.lists(st.floats(0, 90)))
def test_in_no_minute_more_are_requested_at_once_than_may_be(pauses: list[float]) -> None:
    clock = Clock()
    budget: CertificateBudget[None] = CertificateBudget(clock)
    allowed: list[float] = []
    for number, pause in enumerate(pauses):
        clock.now += pause
        if budget.allows(str(number)):
            allowed.append(clock.now)
        else:
            assert len([moment for moment in allowed if moment > clock.now - 60]) == AT_ONCE
    for first, later in zip(allowed, allowed[AT_ONCE:], strict=False):
        assert later - first >= 60


def test_few_urls_wait_and_each_is_drawn_once() -> None:
    budget: CertificateBudget[int] = CertificateBudget(Clock())
    for number in range(3 * MOST_WAITING):
        budget.wait(str(number), number)
        budget.wait(str(number), number)
    assert len(budget) == MOST_WAITING
    drawn = [budget.draw() for _ in range(MOST_WAITING)]
    assert len({one[0] for one in drawn if one and one[0] == str(one[1])}) == MOST_WAITING
    assert budget.draw() is None


def test_forged_deliveries_of_twenty_urls_a_minute_do_not_keep_out_a_genuine_one() -> None:
    """For each of many seeds: forgers come in the best moment, and the genuine delivery last."""
    for seed in range(200):
        clock, minutes = Clock(), 0
        budget: CertificateBudget[str] = CertificateBudget(clock, random.Random(seed).randrange)
        is_fetched = False
        while not is_fetched:
            minutes += 1
            names = [f"forged {minutes} {number}" for number in range(20)]
            for name in [*names, "genuine"]:
                if budget.allows(name):
                    is_fetched = is_fetched or name == "genuine"
                else:
                    budget.wait(name, name)
            for _ in range(int(60 / PAUSE)):
                is_fetched = is_fetched or (budget.draw() or ("",))[0] == "genuine"
            clock.now += 60
        assert minutes < 60, seed
