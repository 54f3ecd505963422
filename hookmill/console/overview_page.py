"""The overview: how much of each group's work is in which state, and what goes in and out."""

from __future__ import annotations

from hookmill.admin.rates import (
    Rates,
    attempts_by_outcome,
    finished_by_type,
    received_by_source,
    received_by_type,
    refused_by_reason,
)
from hookmill.admin.status import dead_reasons, oldest_age
from hookmill.console.charts import Chart, chart_of
from hookmill.console.console import Console, span_of
from hookmill.console.pages import Request, Shown

_CHARTS = (
    ("Received by source", received_by_source),
    ("Received by source and type", received_by_type),
    ("Refused by reason", refused_by_reason),
    ("Attempts by outcome", attempts_by_outcome),
    ("Finished by source and type", finished_by_type),
)


async def overview(console: Console, request: Request) -> Shown:
    """Show the state of everything."""
    seen = await console.watch.overview()
    span = span_of(request)
    rates = await console.rates(span)
    lease = console.settings.lease
    groups = [
        {
            "facts": group,
            "oldest": oldest_age(seen, group),
            "workers": group.workers(lease),
            "reasons": dead_reasons(group),
        }
        for group in seen.groups
    ]
    values = {"seen": seen, "groups": groups, "charts": _charts(rates), "span": span.name}
    return Shown("overview.html", values, "overview")


def _charts(rates: Rates) -> list[Chart]:
    length = len(rates.counts)
    return [chart_of(title, rates.series(of), rates.step, length) for title, of in _CHARTS]
