"""The sources: how each is set up, the last delivery, which secret verified, what was refused."""

from __future__ import annotations

from hookmill.admin.sources import views
from hookmill.admin.units import age
from hookmill.console.console import Console, span_of
from hookmill.console.pages import Request, Shown


async def sources(console: Console, request: Request) -> Shown:
    """Show all sources."""
    span = span_of(request)
    rates = await console.rates(span)
    end = rates.start + len(rates.counts) * rates.step
    rows = [
        (one, age(end - one.last_at) if one.last_at else "")
        for one in views(console.settings, rates)
    ]
    url = console.settings.public_url or ""
    return Shown("sources.html", {"rows": rows, "span": span.name, "url": url}, "overview")
