"""One chaos run from start to verdict."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import redis

from hookmill.stream.keys import Keys
from tests.chaos.faults import Faults
from tests.chaos.ledger import Ledger, Steered, Verdict
from tests.chaos.schedule import KINDS, schedule
from tests.chaos.sending import Senders
from tests.chaos.site import PREFIX, Site
from tests.chaos.watch import Watch
from tests.e2e.line import unfinished
from tests.support import wait_until

TIME_LIMIT = 1500.0
"""Seconds after which a run is given up, beside the time that `rate` asks for."""

LATER = 2 * 3600
"""Seconds by which the clock steps at the end."""

END = 180
"""Seconds that handling what is left may take."""


class Chaos:
    """Sends messages, causes faults, waits for the end, and reads the ledger."""

    def __init__(
        self,
        folder: Path,
        *,
        messages: int,
        faults: int,
        seed: int,
        binary: str,
        partitions: int = 4,
        kinds: Sequence[str] = KINDS,
        rate: float | None = None,
        spares_first: bool = False,
    ) -> None:
        self.schedule = schedule(seed, faults, messages, kinds)
        self.site = Site(folder, binary, partitions, spares_first=spares_first)
        self.watch = Watch(self.site)
        self.senders = Senders(self.site.lines, messages, rate)
        self.faults = Faults(self.site, self.senders)
        self._time_limit = TIME_LIMIT + (messages / rate if rate else 0)
        self._began = time.monotonic()
        self.seconds = 0.0
        self.stuck = ""
        """What was waited for in vain at the end."""

    async def run(self) -> Verdict:
        try:
            await asyncio.to_thread(self.site.start_servers)
            await self.site.open_proxies()
            await asyncio.to_thread(self.site.start_programs)
            watching = asyncio.create_task(self.watch.keep())
            async with asyncio.timeout(self._time_limit):
                async with asyncio.TaskGroup() as group:  # if one fails, the other is cancelled
                    group.create_task(self._cause_faults())
                    group.create_task(self.senders.run())
                await asyncio.to_thread(self._wait_for_end)
            assert not watching.done(), watching.exception()
            watching.cancel()
            self.seconds = time.monotonic() - self._began
            return self._verdict()
        finally:
            await self.site.close()

    async def _cause_faults(self) -> None:
        accepted, messages = self.senders.accepted, self.senders.messages
        for number, fault in enumerate(self.schedule, start=1):
            self.senders.allow(fault.after)
            while len(accepted) < fault.after:  # noqa: ASYNC110 - polling is enough here
                await asyncio.sleep(0.01)
            # During the fault, senders continue with a third of the messages until the next one.
            self.senders.allow(fault.after + messages // (3 * len(self.schedule)))
            await self.faults.cause(fault)
            self._say(f"{number:>4} of {len(self.schedule)}  {fault.kind} ({fault.seconds} s)")
        self.senders.allow(messages)
        await self.faults.wait()

    def _wait_for_end(self) -> None:
        self._say("all accepted; waiting for the end")
        # What is kept for a replay is older than that by any clock that a fault has set.
        self.site.servers.step_clock(LATER)
        ledger = Ledger(self.site.folder)

        def left() -> int:
            ledger.read()
            return len(
                self.senders.accepted.keys() - ledger.handled.keys() - self._dead_letters().keys()
            )

        try:
            wait_until(lambda: left() == 0, timeout=END, what="everything handled")
            with redis.Redis.from_url(self.site.servers.master.url) as client:
                wait_until(
                    lambda: not unfinished(client, PREFIX, self.site.partitions),
                    timeout=END,
                    what="everything acknowledged and trimmed",
                )
        except AssertionError as error:
            self.stuck = str(error)

    def _dead_letters(self) -> dict[str, str]:
        """Return the reason of each dead letter by the ID of its message."""
        with redis.Redis.from_url(self.site.servers.master.url) as client:
            return {
                fields[b"id"].decode(): fields.get(b"reason", b"?").decode()
                for number in range(self.site.partitions)
                for _, fields in client.xrange(Keys(PREFIX, number).of_group("main").dead)
            }

    def _verdict(self) -> Verdict:
        ledger = Ledger(self.site.folder)
        ledger.read()
        senders = self.senders
        return ledger.judge(
            senders.accepted,
            senders.in_order.values(),
            self._dead_letters(),
            self.faults.past,
            self.site.deaths,
            Steered(self.faults.steering.pauses, self.faults.steering.replays),
        )

    def _say(self, text: str) -> None:
        seconds = time.monotonic() - self._began
        print(f"{seconds:>6.0f} s {len(self.senders.accepted):>8} accepted  {text}",
              file=sys.stderr, flush=True)  # fmt: skip
