"""Answers whether the receiver lives (/healthz) and whether it can store a delivery (/readyz).

On the receiver's own port anybody may ask, so /readyz says "ready" and no more. At the admin
address it also says where deliveries go, and names partitions and groups that need attention.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from hookmill.errors import StreamUnavailableError
from hookmill.runtime.admin_request import Answer, PageRefusal
from hookmill.runtime.spool_file import SpoolError
from hookmill.stream.producer import Producer
from receiver.responses import Refusal, Reply
from receiver.spool import Spool

log = structlog.get_logger("receiver")

READY = "ready\n"
READY_SPOOLING = "ready, deliveries go to the spool: Redis takes no writes\n"
READY_DRAINING = "ready, deliveries go to the spool until it is drained\n"
READY_IN_PART = "ready, but partitions {} take no writes: their deliveries get 503\n"
READY_BUT = "ready, but partitions {} cannot be drained from the spool, or are full\n"


class Health:
    """Answers the probes of load balancers. `timeout` is in seconds for a question to Redis. The
    `remarks` follow the text of /readyz at the admin address.
    """

    def __init__(
        self,
        stream: Producer,
        spool: Spool | None,
        timeout: float,
        remarks: Callable[[], str] = str,
    ) -> None:
        self._stream = stream
        self._spool = spool
        self._timeout = timeout
        self._remarks = remarks
        self._probe: asyncio.Task[str | None] | None = None
        self._trouble = ""
        self.is_stopping = False
        """Whether readiness is denied, because the receiver is about to stop."""

    async def alive(self) -> Reply:
        """Answer /healthz."""
        return _text("ok\n")

    async def ready(self) -> Reply | Refusal:
        """Answer /readyz to anybody."""
        found = await self._found_out()
        return found if isinstance(found, Refusal) else _text(READY)

    async def admin_alive(self) -> Answer:
        """Answer /healthz at the admin address."""
        return Answer(200, b"ok\n")

    async def admin_ready(self) -> Answer:
        """Answer /readyz at the admin address."""
        found = await self._found_out()
        if isinstance(found, Refusal):
            return PageRefusal(found.status, found.code, found.cause or found.detail).answer
        return Answer(200, (found + self._remarks()).encode())

    async def _found_out(self) -> str | Refusal:
        """Return the text of a receiver that is ready, or why it is not."""
        if self.is_stopping:
            return Refusal(503, "stopping", "the receiver is stopping")
        if self._probe is None:
            # All probes that come meanwhile wait for this one, to use only one connection to Redis.
            self._probe = asyncio.create_task(self._find_out())
        text = await asyncio.shield(self._probe)
        if text is None:
            return Refusal(503, "stream_unavailable", "no message can be stored now", self._trouble)
        return text

    async def close(self) -> None:
        """Wait until the question to Redis is answered."""
        if self._probe is not None:
            await asyncio.wait([self._probe])

    async def _find_out(self) -> str | None:
        """Return the text of /readyz; None: not ready. Log it when it has changed."""
        try:
            text, trouble = await self._where_to_store()
        finally:
            self._probe = None
        if trouble and trouble != self._trouble:
            log.warning("not ready" if text is None else "ready, spooling", error=trouble)
        elif self._trouble and not trouble:
            log.info("ready again")
        self._trouble = trouble
        return text

    async def _where_to_store(self) -> tuple[str | None, str]:
        """Return the text of /readyz (None: nothing can be stored), and the trouble ("": none)."""
        trouble, away = "", []
        try:
            async with asyncio.timeout(self._timeout):
                away = sorted(await self._stream.away())
        except (StreamUnavailableError, TimeoutError) as error:
            trouble = str(error) or "Redis did not answer in time"
        if self._spool is None:
            ready = READY_IN_PART.format(", ".join(map(str, away))) if away else READY
            return (None if trouble else ready), trouble
        if not trouble and not self._spool.is_active:
            return READY, ""
        spooled = self._spool.spooled
        if not trouble and spooled and not spooled.is_all:
            # A partition that is full or broken must not have the deliveries of the others refused.
            return READY_BUT.format(", ".join(map(str, sorted(spooled.partitions)))), ""
        # While messages are in the spool, all new ones must go there too, to keep their order.
        try:
            await self._spool.probe()
        except SpoolError as error:
            return None, f"{trouble}; {error}" if trouble else str(error)
        return (READY_SPOOLING, trouble) if trouble else (READY_DRAINING, "")


def _text(text: str) -> Reply:
    return Reply(200, text.encode(), (("Content-Type", "text/plain; charset=utf-8"),))
