"""What both programs need of their process: a fast event loop, and signals as an awaitable."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import secrets
import signal
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any


def run(main: Coroutine[Any, Any, None]) -> None:
    """Run a program to its end, on uvloop where it is installed."""
    try:
        import uvloop  # noqa: PLC0415 - it does not exist everywhere
    except ImportError:
        asyncio.run(main)
    else:
        uvloop.run(main)


def spare_the_collector() -> None:
    """Have the garbage collector look for cycles less often: messages leave hardly any behind, yet
    with Python's own thresholds it stops everything, for milliseconds, all the time.
    """
    gc.set_threshold(10_000, 20, 20)


@contextlib.asynccontextmanager
async def stop_signal() -> AsyncIterator[asyncio.Event]:
    """Give an event that SIGTERM or SIGINT sets; a second signal ends the process at once."""
    asked = asyncio.Event()
    loop = asyncio.get_running_loop()
    signals = 0

    # Not the loop's own signal handlers: they would wait for a loop that something blocks.
    def ask(number: int, _frame: object) -> None:
        nonlocal signals
        signals += 1
        if signals > 1:
            with contextlib.suppress(OSError):
                os.write(2, b"second signal: ending at once\n")
            os._exit(128 + number)
        loop.call_soon_threadsafe(asked.set)

    before = {number: signal.signal(number, ask) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.asynccontextmanager
async def on_hangup(then: Callable[[], None]) -> AsyncIterator[None]:
    """Call `then` in the event loop for each SIGHUP, which would end the process otherwise."""
    loop = asyncio.get_running_loop()
    before = signal.signal(signal.SIGHUP, lambda *_: loop.call_soon_threadsafe(then))
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, before)


def consumer_name() -> str:
    """Name this process start: where it runs, and something no other start has."""
    return f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"
