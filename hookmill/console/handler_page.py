"""The handlers: how many attempts each had, how many failed, and how long they took."""

from __future__ import annotations

from typing import Any

from hookmill.admin.pauses import describe, words_of
from hookmill.admin.rates import HandlerRates, Rates
from hookmill.console.console import Console, span_of
from hookmill.console.pages import Request, Shown
from hookmill.stream.facts import GroupFacts


async def handlers(console: Console, request: Request) -> Shown:
    """Show the handlers of a group: those that its workers have, and those that had attempts."""
    group, groups = await console.group_of(request)
    span = span_of(request)
    rates = await console.rates(span)
    rows: list[dict[str, Any]] = []
    if group is not None:
        patterns = _patterns(group)
        rows = [_row(one, rates, patterns) for one in rates.handlers(group.name)]
        rows += [{"name": name, "patterns": found} for name, found in sorted(patterns.items())]
    paused = [] if group is None else await console.pauses(group.name)
    for row in rows:
        row["is_paused"] = any(row["name"] in (one.value, *one.names) for one in paused)
    values: dict[str, Any] = {
        "group": group,
        "groups": groups,
        "rows": rows,
        "span": span.name,
        "heedless": group.heedless(console.settings.lease) if group and paused else [],
        "paused": [(one, words_of(one), describe(one)) for one in paused],
    }
    return Shown("handlers.html", values, "overview")


def _row(one: HandlerRates, rates: Rates, patterns: dict[str, tuple[str, ...]]) -> dict[str, Any]:
    """Return a handler's row; take its patterns away, so that those without a row are left."""
    return {
        "name": one.handler,
        "patterns": patterns.pop(one.handler, ()),
        "attempts": one.attempts,
        "failed": one.failed,
        "dead": one.outcomes["dead"],
        "per_minute": one.attempts * 60 / (rates.step * len(rates.counts)),
        "ran": one.percentiles(one.ran),
        "took": one.percentiles(one.took),
    }


def _patterns(group: GroupFacts) -> dict[str, tuple[str, ...]]:
    """Return the event types of each handler, as the workers say them."""
    found: dict[str, tuple[str, ...]] = {}
    for one in group.heartbeats:
        found.update(one.handlers)
    return found
