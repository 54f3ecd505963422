"""At which rate each source is expected to deliver, for what the memory of message IDs will cost.

No I/O. What is not said of a source follows from what came of each during the last day.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from hookmill.config.settings import Settings
from hookmill.config.sources import names_of
from hookmill.config.windows import own_windows, window_of
from hookmill.printable import printable

LEAST_RATE = 0.001


class GivenRates(NamedTuple):
    """Messages a second, as an operator expects them: all together, and of single sources."""

    total: float
    by_source: Mapping[str, float] = {}


class SourceRate(NamedTuple):
    """Messages a second of a source ("": of sources that nothing is known of), for how many
    seconds at least an ID of it is remembered, and whether that is its share of what came before.
    """

    source: str
    rate: float
    window: int
    is_share: bool = False


def given_rates(words: Iterable[str], settings: Settings) -> GivenRates | None:
    """Read rates, each `NUMBER` or `SOURCE=NUMBER`. Raises `ValueError`."""
    total, by_source, known = None, {}, names_of(settings)
    for word in words:
        source, named, number = word.rpartition("=")
        rate = _number(number)
        if rate is None:
            raise ValueError(
                f"{printable(word)} is no rate: give messages a second, such as 50, or those of a "
                "source, such as shop=50"
            )
        if not named:
            total = rate
        elif source in known:
            by_source[source] = rate
        else:
            raise ValueError(
                f"there is no source {printable(source)}: there are {', '.join(known) or 'none'}"
            )
    single = math.fsum(by_source.values())
    if total is None:
        return GivenRates(single, by_source) if by_source else None
    if single > total:
        raise ValueError(
            f"the sources have {single:g} messages a second together, but all have {total:g}: "
            "raise that, or leave it out"
        )
    return GivenRates(total, by_source)


def needs_shares(given: GivenRates, settings: Settings) -> bool:
    """Return whether it counts how the rest of a rate is divided among the sources."""
    return given.total > math.fsum(given.by_source.values()) and bool(own_windows(settings))


def by_source(
    given: GivenRates, settings: Settings, came: Mapping[str, int]
) -> Sequence[SourceRate]:
    """Return the rate of each source. `came` is how much came of them; what it does not tell counts
    for the longest window.
    """
    rates = [
        SourceRate(source, rate, window_of(source, settings))
        for source, rate in given.by_source.items()
    ]
    rest = given.total - math.fsum(given.by_source.values())
    if rest <= 0:
        return rates
    others = {
        source: count
        for source, count in came.items()
        if count > 0 and source not in given.by_source and source in names_of(settings)
    }
    if not others or not needs_shares(given, settings):
        return [*rates, SourceRate("", rest, settings.dedup_window)]
    whole = sum(others.values())
    return rates + [
        SourceRate(source, rest * count / whole, window_of(source, settings), is_share=True)
        for source, count in others.items()
    ]


def _number(text: str) -> float | None:
    try:
        rate = float(text)
    except ValueError:
        return None
    return rate if math.isfinite(rate) and rate >= LEAST_RATE else None
