"""The parts of a running console that its pages share."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from functools import cached_property
from typing import Any

from hookmill.admin import audit
from hookmill.admin.audit import Act
from hookmill.admin.rates import RateReader, Rates
from hookmill.admin.typed_bodies import Classes, known_classes
from hookmill.config.settings import Settings
from hookmill.console.access import Access
from hookmill.console.backend import Backend
from hookmill.console.jobs import Jobs
from hookmill.console.pages import PageRefusedError, Request
from hookmill.console.watch import PERIOD, Watch
from hookmill.events import Event
from hookmill.stream.facts import GroupFacts, Overview, Pause
from hookmill.stream.pauses import Pauses
from hookmill.stream.rates import DAY, HOUR, Span

RATES_PERIOD = 5.0
"""Seconds for which pages show the same rates."""


class Console:
    """The connection to Redis, the one reader, the jobs, and who may do what."""

    def __init__(self, settings: Settings, events: Iterable[type[Event]] = ()) -> None:
        self.settings = settings
        self._events = tuple(events)
        self.access = Access(settings)
        self.backend = Backend(settings)
        self.watch = Watch(self._look)
        self.jobs = Jobs(lambda: self.watch.tell("jobs"))
        self._rate_reader = RateReader()
        self._rates: dict[str, tuple[float, Rates]] = {}
        self._reading_rates = asyncio.Lock()
        self._pauses: dict[str, tuple[float, list[Pause]]] = {}

    @cached_property
    def classes(self) -> Classes:
        """The event classes that bodies are shown against."""
        return known_classes(self._events)

    async def _look(self) -> Overview:
        return await (await self.backend.inspector()).overview()

    async def rates(self, span: Span) -> Rates:
        """Return what went in and out. However many browsers ask, it is read once a while."""
        async with self._reading_rates:
            at, rates = self._rates.get(span.name, (-RATES_PERIOD, None))
            if rates is None or time.monotonic() - at >= RATES_PERIOD:
                rates = await self._rate_reader.read(await self.backend.client(), span)
                self._rates[span.name] = time.monotonic(), rates
            return rates

    async def pauses(self, group: str) -> list[Pause]:
        """Return what is paused of a group, at most a few seconds old."""
        at, found = self._pauses.get(group, (-PERIOD, []))
        if time.monotonic() - at >= PERIOD:
            found = await Pauses(await self.backend.client(), group).listed()
            self._pauses[group] = time.monotonic(), found
        return found

    def forget_pauses(self) -> None:
        """Have the next page show what is paused now."""
        self._pauses.clear()

    async def group_of(self, request: Request) -> tuple[GroupFacts | None, list[str]]:
        """Return the group that a page is about, and the names of all. Without one in the query, it
        is the settings' group. Raises `PageRefusedError` if there is none of this name.
        """
        groups = {group.name: group for group in (await self.watch.overview()).groups}
        asked = request.field("group") or request.query.get("group", "")
        if asked and asked not in groups:
            raise PageRefusedError(404, f"there is no group {asked}")
        name = asked or self.settings.group
        return groups.get(name) or next(iter(groups.values()), None), sorted(groups)

    async def close(self) -> None:
        """End everything."""
        await self.watch.close()
        await self.jobs.close()
        await self.backend.close()


@asynccontextmanager
async def acting(
    console: Console, request: Request, action: str, about: Mapping[str, Any]
) -> AsyncIterator[Act]:
    """Record what a person does, as `hookmill.admin.audit` says. The form's `why` is the reason."""
    client, operator = await console.backend.client(), operator_of(request)
    async with audit.acting(console.settings, action, about, operator, client=client) as act:
        yield act


def operator_of(request: Request) -> audit.Operator:
    """Return who is recorded for what a form asks for, and the reason in its field `why`."""
    viewer = request.viewer
    return audit.Operator(f"{viewer.name or viewer.role} (console)", request.field("why"))


def span_of(request: Request) -> Span:
    """Return which time a page is to show: the last hour, or the last day."""
    return DAY if request.query.get("span") == DAY.name else HOUR


def need_operator(request: Request) -> None:
    """Raise `PageRefusedError` unless the person may act."""
    if not request.viewer.may_act:
        raise PageRefusedError(
            403, "you may look and not act: log in with the operator's token of the console"
        )
