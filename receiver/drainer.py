"""Moves messages from the spool into the stream as soon as Redis takes writes again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress

import structlog

from hookmill.errors import BacklogFullError, StreamUnavailableError
from hookmill.message import delivery_name
from hookmill.runtime.spool_file import SpoolError
from hookmill.stream.arrival import Row
from hookmill.stream.producer import Producer
from receiver.background import BackgroundTask
from receiver.drain_pace import LONGEST, DrainPace
from receiver.spool import Spool

log = structlog.get_logger("receiver")

PERIOD = 0.25
"""Seconds between two looks at the spool, and between two attempts while Redis is away."""

CLEAN_PERIOD = 5.0
"""Seconds between two attempts to delete drained rows from a full disk. Each may write a lot before
it fails.
"""


class Drainer:
    """Drains the spool in the background. `timeout` is in seconds for one round trip; that of a
    batch grows behind a slow line.

    Messages of other processes that share the spool's file are drained too: a process may have
    died and left some.
    """

    def __init__(self, spool: Spool, stream: Producer, timeout: float) -> None:
        self._spool = spool
        self._stream = stream
        self._patient = stream.with_timeout(LONGEST)
        self._timeout = timeout
        self._pace = DrainPace(timeout)
        self._clean_at = 0.0
        self._task = BackgroundTask("drainer", self._drain_if_needed, PERIOD)
        self._trouble = ""
        self._appended: set[bytes] = set()

    def start(self) -> None:
        """Start draining. It can be started again after `stop`."""
        self._task.start()

    async def stop(self) -> None:
        """Stop draining. Messages in the spool stay there; the current batch may be appended twice,
        and the workers drop the duplicates.
        """
        await self._task.stop()

    async def _drain_if_needed(self) -> None:
        if self._spool.is_active:
            await self._drain()
            return
        self._spool.is_stuck_in_backlog = False
        if self._spool.needs_cleaning and time.monotonic() >= self._clean_at:
            self._clean_at = time.monotonic() + CLEAN_PERIOD
            with suppress(SpoolError):  # the disk is still full
                await self._spool.clean()

    async def _drain(self) -> None:
        """Drain the spool if Redis takes writes. Log what has changed since the last attempt."""
        trouble, is_stuck = "", False
        try:
            async with asyncio.timeout(self._timeout):
                await self._stream.probe()
            if drained := await self._spool.drain(self._append, self._pace):
                log.info("spool drained", count=drained)
        except (StreamUnavailableError, TimeoutError) as error:
            is_stuck = isinstance(error, BacklogFullError)
            trouble = str(error) or "Redis did not answer in time"
        except Exception as error:  # our own fault: logged once, and tried again
            trouble = repr(error)
            if trouble != self._trouble:
                log.exception("draining failed")
        finally:
            await self._patient.client.close()
        self._spool.is_stuck_in_backlog = is_stuck
        if trouble and not self._trouble:
            log.warning("the spool cannot be drained", error=trouble)
        self._trouble = trouble

    async def _append(self, rows: Sequence[Row]) -> None:
        """Append a batch; raise the error of a partition that refused its part.

        The whole batch then stays in the spool and comes here again. `_appended` remembers which of
        its rows were appended, so that they are not appended twice.
        """
        self._appended &= {delivery_name(row.fields) for row in rows}
        missing = [row for row in rows if delivery_name(row.fields) not in self._appended]
        results = await self._patient.append_rows(missing)
        refused: StreamUnavailableError | None = None
        for row, result in zip(missing, results, strict=True):
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
