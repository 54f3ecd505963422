"""The rates that `hookmill check --rate` is given, and what is concluded for each source."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hookmill.admin.id_rates import GivenRates, SourceRate, by_source, given_rates, needs_shares
from hookmill.config.settings import Settings
from hookmill.config.source_options import SourceOptions

DAY, HOUR = 86_400, 3600


def with_windows(**windows: int | None) -> Settings:
    tables = {
        name: SourceOptions(preset="github", dedup_window=window)
        for name, window in windows.items()
    }
    return Settings(dedup_window=DAY, sources=tables)


BOTH = with_windows(shop=HOUR, hub=None)


def test_a_rate_is_that_of_all_or_of_a_source() -> None:
    assert given_rates([], BOTH) is None
    assert given_rates(["50"], BOTH) == GivenRates(50)
    assert given_rates(["shop=20", "50"], BOTH) == GivenRates(50, {"shop": 20})
    assert given_rates(["shop=20", "hub=5.5"], BOTH) == GivenRates(25.5, {"shop": 20, "hub": 5.5})


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        (["many"], "many is no rate: give messages a second, such as 50"),
        (["0"], "0 is no rate"),
        (["nan"], "nan is no rate"),
        (["shop="], "shop= is no rate"),
        (["other=5"], "there is no source other: there are shop, hub"),
        (["shop=60", "50"], "the sources have 60 messages a second together, but all have 50"),
    ],
)
def test_what_is_no_rate_is_refused(words: list[str], fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        given_rates(words, BOTH)


@given(words=st.lists(st.text(max_size=12), max_size=3))
def test_any_words_are_rates_or_refused(words: list[str]) -> None:
    fault = ""
    try:
        found = given_rates(words, BOTH)
    except ValueError as error:
        fault, found = str(error), None
    assert fault.isprintable()
    assert found is None or (math.isfinite(found.total) and found.total > 0)


def test_the_rest_is_divided_as_it_came() -> None:
    rates = by_source(GivenRates(50), BOTH, {"shop": 300, "hub": 100, "gone": 1000})
    assert rates == [
        SourceRate("shop", 37.5, HOUR, is_share=True),
        SourceRate("hub", 12.5, DAY, is_share=True),
    ]
    named = by_source(GivenRates(50, {"shop": 10}), BOTH, {"shop": 300, "hub": 100})
    assert named == [SourceRate("shop", 10, HOUR), SourceRate("hub", 40, DAY, is_share=True)]


def test_what_nothing_is_known_of_counts_for_the_longest_window() -> None:
    assert by_source(GivenRates(50), BOTH, {}) == [SourceRate("", 50, DAY)]
    rates = by_source(GivenRates(50, {"shop": 20}), BOTH, {})
    assert rates == [SourceRate("shop", 20, HOUR), SourceRate("", 30, DAY)]


def test_shares_are_asked_for_only_where_they_count() -> None:
    assert needs_shares(GivenRates(50), BOTH)
    assert not needs_shares(GivenRates(20, {"shop": 20}), BOTH)
    alike = with_windows(shop=None, hub=DAY)
    assert not needs_shares(GivenRates(50), alike)
    assert by_source(GivenRates(50), alike, {"shop": 1}) == [SourceRate("", 50, DAY)]
