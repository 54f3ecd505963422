"""How each kind of fault is caused."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Any

import redis

from tests.chaos.ledger import PastFault
from tests.chaos.proxy import Proxy
from tests.chaos.schedule import Fault
from tests.chaos.sending import Senders
from tests.chaos.site import RECEIVERS, WORKERS, Site
from tests.chaos.steering import Steering
from tests.e2e.line import Post
from tests.support import Program, Server

MB = 1_000_000
SLOW = 12.5 * MB
"""Bytes a second: a line of 100 Mbit/s."""

IDLE = 4.0
"""Silent seconds after which a proxy ends a connection."""

STEPS = (30, -30, 3600, -3600, 5, -3600)
"""Seconds by which the clock steps, by the fault's target."""


class Faults:
    """Causes faults at a site. Slow lines and idle cuts last while the next faults happen, and so
    does what operators do.
    """

    def __init__(self, site: Site, senders: Senders) -> None:
        self._site = site
        self._senders = senders
        self.steering = Steering(site, senders)
        self._lasting: list[asyncio.Task[None]] = []
        self.past: list[PastFault] = []
        self.left_out: Counter[str] = Counter()
        """The faults that were not possible, with the reason."""

        self._how: dict[str, Callable[[Fault], Awaitable[int]]] = {
            **{f"{verb} {what}": self._end for verb in ("kill", "stop") for what in _PROGRAMS},
            **{f"freeze {what}": self._freeze for what in (*_PROGRAMS, "redis")},
            "kill redis": self._kill_redis,
            "kill rewriting redis": self._kill_redis,
            "cut connections": self._cut_connections,
            "switch, sessions kept": self._switch,
            "switch, sessions moved": self._switch,
            "half-open": self._forget_sessions,
            "slow line": self._slow_line,
            "idle cuts": self._idle_cuts,
            "full disk": self._fill_disk,
            "clock step": self._step_clock,
            "big bodies": self._send_big_bodies,
            "out of memory": self._send_harmful,
            "stuck thread": self._send_harmful,
            "pause": self._steer,
            "replay": self._steer,
        }

    async def cause(self, fault: Fault) -> None:
        """Cause a fault, and remember it."""
        began = time.time()
        pid = await self._how[fault.kind](fault)
        self.past.append(PastFault(fault, began, time.time(), pid))

    async def wait(self) -> None:
        """Wait for the end of those that last."""
        await asyncio.gather(*self._lasting)
        await self.steering.end_all()

    # --- processes -------------------------------------------------------------------------------

    async def _end(self, fault: Fault) -> int:
        verb, _, what = fault.kind.partition(" ")
        program = self._site.to_end(what, fault.target)
        await asyncio.to_thread(self._site.end, program, verb)
        return program.pid

    async def _freeze(self, fault: Fault) -> int:
        target: Program | Server
        target = self._site.servers.master if "redis" in fault.kind else self._program(fault)
        pid = target.pid
        target.signal(signal.SIGSTOP)
        await asyncio.sleep(fault.seconds)
        target.signal(signal.SIGCONT)
        return pid

    def _program(self, fault: Fault) -> Program:
        if "worker" in fault.kind:
            return self._site.workers[fault.target % WORKERS]
        return self._site.receivers[fault.target % RECEIVERS]

    async def _send_harmful(self, fault: Fault) -> int:
        what = "stuck" if fault.kind == "stuck thread" else "hungry"
        post = self._senders.lines[0].order_of(
            f"{what}_{fault.after}", b'{"type":"%b"}' % what.encode()
        )
        self._senders.send_extra([post])
        return 0

    async def _send_big_bodies(self, fault: Fault) -> int:
        self._senders.send_extra(self._big_bodies(fault, 12))
        return 0

    def _big_bodies(self, fault: Fault, count: int) -> list[Post]:
        draw = random.Random(fault.after)
        line = self._senders.lines[0]
        posts = []
        for number in range(count):
            filler = b"x" * draw.randrange(MB, 8 * MB)
            body = b'{"type":"order.paid","order_id":"big","amount":1,"note":"%b"}' % filler
            posts.append(line.order_of(f"big_{fault.after}_{number}", body))
        return posts

    # --- Redis -----------------------------------------------------------------------------------

    async def _kill_redis(self, fault: Fault) -> int:
        server = self._site.servers.master
        pid = server.pid
        if "rewriting" in fault.kind:
            with redis.Redis.from_url(server.url) as client, suppress(redis.ResponseError):
                client.bgrewriteaof()  # it may be rewriting already
        server.kill()
        await asyncio.sleep(fault.seconds)
        await asyncio.to_thread(server.start)
        return pid

    async def _cut_connections(self, _: Fault) -> int:
        with redis.Redis.from_url(self._site.servers.master.url) as client:
            client.client_kill_filter(_type="normal", skipme=True)
        return 0

    async def _switch(self, fault: Fault) -> int:
        pid = self._site.servers.master.pid
        if not await asyncio.to_thread(self._site.servers.switch):
            self.left_out["switch: the replica was not in step"] += 1
            return pid
        for proxy in self._site.proxies:
            keep = "kept" in fault.kind
            proxy.lead_to(self._site.servers.master.port, keep_sessions=keep)
        return pid

    async def _step_clock(self, fault: Fault) -> int:
        if not self._site.servers.can_step:
            self.left_out["clock step: it needs libfaketime and Valkey"] += 1
            return 0
        self._site.servers.step_clock(STEPS[fault.target])
        await asyncio.sleep(1)  # until the servers notice
        return 0

    async def _steer(self, fault: Fault) -> int:
        act = self.steering.pause if fault.kind == "pause" else self.steering.replay
        self._go_on(act(fault))
        return 0

    # --- lines and disks -------------------------------------------------------------------------

    def _proxies(self, fault: Fault) -> list[Proxy]:
        """Return the receivers' proxy, the workers' proxy, or both."""
        return [self._site.proxies[:1], self._site.proxies[1:], self._site.proxies][
            fault.target % 3
        ]

    async def _forget_sessions(self, fault: Fault) -> int:
        for proxy in self._proxies(fault):
            proxy.forget_sessions()
        return 0

    async def _slow_line(self, fault: Fault) -> int:
        """Make lines slow for a while, and send some big bodies over them."""
        proxies = self._proxies(fault)
        for proxy in proxies:
            proxy.throttle(SLOW)
        self._senders.send_extra(self._big_bodies(fault, 3))

        def end() -> None:
            for proxy in proxies:
                proxy.throttle(None)

        self._last(4 + 3 * fault.seconds, end)
        return 0

    async def _idle_cuts(self, fault: Fault) -> int:
        """Cut idle connections for a while, and kill a worker, whose messages others take over."""
        for proxy in self._site.proxies:
            proxy.cut_idle(IDLE)

        def end() -> None:
            for proxy in self._site.proxies:
                proxy.cut_idle(None)

        self._last(3 * IDLE + 3 * fault.seconds, end)
        program = self._site.to_end("worker", fault.target)
        await asyncio.to_thread(self._site.end, program, "kill")
        return program.pid

    def _last(self, seconds: float, end: Callable[[], None]) -> None:
        async def last() -> None:
            await asyncio.sleep(seconds)
            end()

        self._go_on(last())

    def _go_on(self, lasting: Coroutine[Any, Any, None]) -> None:
        self._lasting.append(asyncio.create_task(lasting))

    async def _fill_disk(self, fault: Fault) -> int:
        """Fill the disk of the spool, and freeze Redis, so that the spool is needed. The disk stays
        full for a while longer, while the spool is drained.
        """
        if not self._site.disk_is_small:
            self.left_out["full disk: a file system cannot be mounted here"] += 1
            return 0
        server = self._site.servers.master
        server.signal(signal.SIGSTOP)
        await asyncio.sleep(fault.seconds / 2)  # something is in the spool before
        path = self._site.disk / "other.log"
        await asyncio.to_thread(fill, str(path))
        await asyncio.sleep(fault.seconds)
        server.signal(signal.SIGCONT)
        await asyncio.sleep(fault.seconds / 2)
        path.unlink()
        return server.pid


_PROGRAMS = ("worker", "receiver")


def fill(path: str) -> None:
    """Write to a file until the disk has no room left."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT)
    try:
        for size in (1_048_576, 4096):
            with suppress(OSError):
                while os.write(handle, bytes(size)) == size:
                    pass
    finally:
        os.close(handle)
