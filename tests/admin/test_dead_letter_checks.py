"""The judgement on dead letters: they are noted, and a warning comes long before one is dropped."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from hookmill.admin.dead_letter_checks import judge_dead_letters
from hookmill.admin.findings import exit_status
from hookmill.config.settings import Settings
from hookmill.stream.facts import GroupFacts
from tests.admin.facts import SET, WORKED, levels, with_groups

MB = 1_000_000


def having(dead: int, **fields: Any) -> GroupFacts:
    return msgspec.structs.replace(WORKED, dead=dead, **fields)


def bounded(**bounds: float) -> Settings:
    return SET.model_copy(update=bounds)


def test_dead_letters_are_noted_with_their_number_and_bytes() -> None:
    assert list(judge_dead_letters(with_groups(having(0)), SET)) == []
    assert levels(*judge_dead_letters(with_groups(having(1)), SET)) == [
        ("note", "1 dead letter lies in group main")
    ]
    many = having(2000, dead_bytes=3 * MB)
    found = list(judge_dead_letters(with_groups(many), SET))
    assert levels(*found) == [("note", "2,000 dead letters lie in group main (3 MB)")]
    assert exit_status(found) == 0


def test_the_advice_about_dead_letters_names_their_group() -> None:
    # Without --group, `hookmill dead drop` would drop those of the group of the settings.
    other = having(1, name="other")
    (found,) = judge_dead_letters(with_groups(other), SET)
    assert "`hookmill dead list --group other`" in found.do


@pytest.mark.parametrize(
    ("bounds", "near"),
    [
        ({"dead_messages": 1000}, "800 of 1,000 (HOOKMILL_DEAD_MESSAGES)"),
        ({"dead_messages": 1001}, ""),
        ({"dead_bytes": 10 * MB}, "8 MB of 10 MB (HOOKMILL_DEAD_BYTES)"),
        ({"dead_bytes": 11 * MB}, ""),
        ({"dead_age": 10 * 3600}, "8 h of 10 h (HOOKMILL_DEAD_AGE)"),
        ({"dead_age": 11 * 3600}, ""),
    ],
)
def test_dead_letters_near_a_bound_raise_a_warning(bounds: dict[str, float], near: str) -> None:
    group = having(800, dead_bytes=8 * MB, oldest_dead_ms=1)
    overview = with_groups(group, now_ms=8 * 3600 * 1000 + 1, maxmemory=10 * MB)
    _, *found = judge_dead_letters(overview, bounded(**bounds))
    expected = [("warning", f"the dead letters of group main are near a bound: {near}")]
    assert levels(*found) == (expected if near else [])


def test_dead_letters_without_a_bound_that_take_much_of_maxmemory_raise_a_warning() -> None:
    group = having(800, dead_bytes=10 * MB)
    _, found = judge_dead_letters(with_groups(group, maxmemory=40 * MB), SET)
    assert levels(found) == [
        (
            "warning",
            "the dead letters of group main take 25% of maxmemory (10 MB of 40 MB)",
        )
    ]
    for less in (with_groups(group, maxmemory=41 * MB), with_groups(group)):
        assert len(list(judge_dead_letters(less, SET))) == 1
