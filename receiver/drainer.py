"""Moves messages from the spool into the stream as soon as Redis takes writes again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from copy import copy

import structlog

from hookmill.errors import BacklogFullError, NotDurableError, StreamUnavailableError
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
        self._held_up: set[int] = set()
        self._away: Mapping[int, StreamUnavailableError] = {}
        """The partitions that took no writes when they were last asked, though others did."""

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
        self._spool.full = frozenset()
        if self._spool.needs_cleaning and time.monotonic() >= self._clean_at:
            self._clean_at = time.monotonic() + CLEAN_PERIOD
            with suppress(SpoolError):  # the disk is still full
                await self._spool.clean()

    async def _drain(self) -> None:
        """Drain the spool if Redis takes writes. Log what has changed since the last attempt."""
        held_up: Mapping[int, StreamUnavailableError] = {}
        trouble = ""
        try:
            await self._drain_what_can_be()
            held_up = self._spool.held_up
            trouble = "; ".join(str(error) for error in held_up.values())
        except (StreamUnavailableError, TimeoutError) as error:
            trouble = str(error) or "Redis did not answer in time"
        except Exception as error:  # our own fault: logged once, and tried again
            trouble = repr(error)
            if trouble != self._trouble:
                log.exception("draining failed")
        finally:
            await self._patient.close()
        self._spool.full = frozenset(
            number for number, error in held_up.items() if isinstance(error, BacklogFullError)
        )
        if trouble and (not self._trouble or set(held_up) != self._held_up):
            log.warning(
                "the spool cannot be drained", error=trouble,
                **({"partitions": sorted(held_up)} if held_up else {}),
            )  # fmt: skip
        self._trouble, self._held_up = trouble, set(held_up)

    async def _drain_what_can_be(self) -> None:
        async with asyncio.timeout(self._timeout):
            self._away = await self._stream.away()
            full = await self._stream.full(self._spool.full - self._away.keys())
        if drained := await self._spool.drain(self._append, self._pace, {*full, *self._away}):
            log.info("spool drained", count=drained)

    async def _append(self, rows: Sequence[Row]) -> Mapping[int, StreamUnavailableError]:
        """Append a batch; return the partitions that refused their part, and why."""
        several, partitions = len(self._stream.lanes) > 1, self._spool.partitions
        refused: dict[int, StreamUnavailableError] = {}
        if self._away:
            numbers = {row.partition(partitions) for row in rows}
            refused = {n: error for n, error in self._away.items() if n in numbers}
            rows = [row for row in rows if row.partition(partitions) not in refused]
        results = await self._patient.append_rows(rows)
        for row, result in zip(rows, results, strict=True):
            if isinstance(result, NotDurableError) and not several:
                raise copy(result)  # it concerns the server; a copy, as in `checked`
            if isinstance(result, StreamUnavailableError):
                refused[row.partition(partitions)] = result
            elif not result:
                log.warning(
                    "refused behind the spool", code="token_reused",
                    id=row.fields.get(b"id", b"").decode("utf-8", "replace"),
                )  # fmt: skip
        return refused
