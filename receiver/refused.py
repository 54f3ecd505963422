"""Keeps a few refused deliveries in Redis for a look, each with its explanation.

Strangers cause refusals, so everything about it is bounded before any work is done: one delivery of
a source each ten seconds, one at a time, in a thread, and for at most a twentieth of the time.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import structlog

from hookmill.config.settings import Settings
from hookmill.config.sources import Source
from hookmill.debug.refusals import Verdict, kept_of
from hookmill.errors import StreamUnavailableError
from hookmill.runtime.tasks import cancel_and_wait
from hookmill.stream.client import Client
from hookmill.stream.refused import PAUSE, RefusedDeliveries
from receiver.intake import ReceivedRequest, delivery_of
from receiver.responses import Refusal

log = structlog.get_logger("receiver")

REST = 19.0
"""After an explanation, none is made for so many times as long as it took."""


class RefusedKeeper:
    """Gets each refusal of a delivery whose body was read, and keeps a few. Only the event loop
    uses it. Where Redis is away or full, nothing is kept.
    """

    def __init__(
        self, client: Client, settings: Settings, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._kept = RefusedDeliveries(client)
        self._most = settings.keep_refused
        self._tolerance = settings.clock_tolerance
        self._clock = clock
        self._next: dict[str, float] = {}
        self._rests_until = 0.0
        self._task: asyncio.Task[None] | None = None

    def note(self, source: Source, request: ReceivedRequest, refusal: Refusal) -> None:
        """Keep this delivery, if it is one of the few. It returns at once."""
        now = self._clock()
        if self._task is not None or now < max(self._rests_until, self._next.get(source.name, 0.0)):
            return
        self._next[source.name] = now + PAUSE
        self._task = asyncio.create_task(self._keep(source, request, refusal))
        self._task.add_done_callback(self._has_ended)

    async def stop(self) -> None:
        """End, also in the middle of a delivery."""
        if self._task is not None:
            await cancel_and_wait([self._task])

    async def _keep(self, source: Source, request: ReceivedRequest, refusal: Refusal) -> None:
        try:
            # Asked first: other receivers may have kept some, and an explanation costs more.
            place = await self._kept.claim(source.name, self._most)
            if not place.id:
                self._next[source.name] = self._clock() + place.wait
                return
            began = self._clock()
            try:
                kept = await asyncio.to_thread(
                    kept_of,
                    source,
                    delivery_of(source, request),
                    request.raw_headers,
                    Verdict(*refusal),
                    time.time(),
                    self._tolerance,
                )
            finally:
                now = self._clock()
                self._rests_until = now + REST * (now - began)
            await self._kept.put(place, kept)
        except StreamUnavailableError:
            return  # other parts of the receiver say so
        except Exception:  # the delivery is a stranger's, and it was answered already
            log.exception("a refused delivery cannot be explained", source=source.name)

    def _has_ended(self, _: object) -> None:
        self._task = None
