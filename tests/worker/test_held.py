"""What a worker holds, and the budget of bytes that it shares."""

from __future__ import annotations

from hookmill.stream.entries import Entry, EntryRef, Taken
from worker.held import Budget, Holdings


def taken(*sizes: int) -> Taken:
    entries = [Entry(EntryRef(1, f"{n}-0"), {}, weight=size) for n, size in enumerate(sizes)]
    return Taken(entries, [])


def test_where_nothing_is_held_the_whole_budget_is_left() -> None:
    holdings = Holdings(Budget(1000))
    assert (holdings.bytes_left, holdings.is_full) == (1000, False)


def test_the_bytes_of_what_is_held_count_until_it_is_let_go() -> None:
    holdings = Holdings(Budget(1000))
    held = holdings.add(taken(300, 500), 7.0)
    assert (holdings.bytes_left, len(held), len(holdings.entries)) == (200, 2, 2)
    holdings.let_go([held[0].ref])
    assert holdings.bytes_left == 500
    holdings.let_go([held[0].ref, held[1].ref])
    assert (holdings.bytes_left, holdings.entries) == (1000, {})


def test_the_budget_is_used_up_by_the_entry_that_passes_it() -> None:
    holdings = Holdings(Budget(1000))
    holdings.add(taken(300, 900), 7.0)
    assert (holdings.bytes_left, holdings.is_full) == (-200, True)


def test_an_entry_that_is_held_already_is_not_held_twice() -> None:
    holdings = Holdings(Budget(1000))
    holdings.add(taken(300), 7.0)
    assert [one.ref.id for one in holdings.add(taken(300, 100), 8.0)] == ["1-0"]
    assert holdings.bytes_left == 600
    assert [hold.since for hold in holdings.entries.values()] == [7.0, 8.0]


def test_half_of_the_budget_is_split_and_the_other_half_is_for_whoever_needs_it() -> None:
    budget = Budget(1200)
    one, other, third = (Holdings(budget) for _ in range(3))
    assert [each.bytes_left for each in (one, other, third)] == [800, 800, 800]
    held = one.add(taken(500), 7.0)
    assert [each.bytes_left for each in (one, other, third)] == [300, 500, 500]
    one.add(Taken([Entry(EntryRef(1, "9-0"), {}, weight=300)], []), 7.0)
    assert (one.is_full, other.bytes_left, third.is_full) == (True, 200, False)
    other.add(taken(200), 7.0)
    assert (one.is_full, other.is_full, third.bytes_left) == (True, True, 200)
    one.let_go([held[0].ref])
    assert [each.bytes_left for each in (one, other, third)] == [500, 500, 700]


def test_what_a_take_under_way_may_bring_is_left_to_it() -> None:
    budget = Budget(800)
    one, other = Holdings(budget), Holdings(budget)
    one.kept = one.bytes_left
    assert (one.bytes_left, other.bytes_left) == (600, 200)
