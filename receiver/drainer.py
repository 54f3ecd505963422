"""Brings what is in the spool into the stream as soon as Redis is back, whoever put it there."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress

import structlog

from hookmill.errors import BacklogFullError, StreamUnavailableError
from hookmill.message import delivery_name
from hookmill.stream.arrival import Row
from hookmill.stream.producer import Producer
from receiver.spool import Spool

log = structlog.get_logger("receiver")

PAUSE = 0.25
"""Seconds between two looks at the spool, and between two at Redis while it is away."""


class Drainer:
    """Drains the spool in the background. `timeout` is in seconds for one round trip."""

    def __init__(self, spool: Spool, stream: Producer, timeout: float) -> None:
        self._spool = spool
        self._stream = stream
        self._timeout = timeout
        self._running: asyncio.Task[None] | None = None
        self._trouble = ""
        self._appended: set[bytes] = set()

    def start(self) -> None:
        """Begin to look after the spool."""
        self._running = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Stop; what is in the spool stays there. A batch under way may be appended once more."""
        if self._running is not None:
            self._running.cancel()
            with suppress(asyncio.CancelledError):
                await self._running
            self._running = None

    async def _run(self) -> None:
        while True:
            # Another process may have filled it, and may have died since.
            if self._spool.is_active:
                await self._turn()
            else:
                self._spool.is_stuck_in_backlog = False
            await asyncio.sleep(PAUSE)

    async def _turn(self) -> None:
        """Drain the spool if Redis takes writes; say what is new."""
        trouble, is_stuck = "", False
        try:
            async with asyncio.timeout(self._timeout):
                await self._stream.probe()
            if drained := await self._spool.drain(self._append):
                log.info("spool drained", count=drained)
        except (StreamUnavailableError, TimeoutError) as error:
            is_stuck = isinstance(error, BacklogFullError)
            trouble = str(error) or "Redis did not answer in time"
        except Exception as error:  # a fault of ours must not end the draining for good
            trouble = repr(error)
            if trouble != self._trouble:
                log.exception("draining failed")
        self._spool.is_stuck_in_backlog = is_stuck
        if trouble and not self._trouble:
            log.warning("the spool cannot be drained", error=trouble)
        self._trouble = trouble

    async def _append(self, rows: Sequence[Row]) -> None:
        # Those that a partition took before another one refused are not appended again.
        self._appended &= {delivery_name(row.fields) for row in rows}
        waiting = [row for row in rows if delivery_name(row.fields) not in self._appended]
        async with asyncio.timeout(self._timeout):
            results = await self._stream.append_rows(waiting)
        refused: StreamUnavailableError | None = None
        for row, result in zip(waiting, results, strict=True):
            if isinstance(result, StreamUnavailableError):
                refused = result
                continue
            self._appended.add(delivery_name(row.fields))
            if not result:
                log.warning(
                    "refused behind the spool", code="token_reused",
                    id=row.fields.get(b"id", b"").decode("utf-8", "replace"),
                )  # fmt: skip
        if refused is not None:
            raise refused
        self._appended.clear()
