"""A program's process: its event loop, its signals, its garbage collector and its name."""

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
    """Run a program to its end, on uvloop if it is installed."""
    try:
        import uvloop  # noqa: PLC0415 - not available on every system
    except ImportError:
        asyncio.run(main)
    else:
        uvloop.run(main)


def collect_garbage_less_often() -> None:
    """Raise the thresholds of the garbage collector. Messages leave hardly any cycles, but with
    Python's thresholds the collector often stops the program for milliseconds.
    """
    gc.set_threshold(10_000, 20, 20)


@contextlib.asynccontextmanager
async def stop_signal() -> AsyncIterator[asyncio.Event]:
    """Give an event that SIGTERM or SIGINT sets. A second signal ends the process at once, with
    status 128 + its number.
    """
    asked = asyncio.Event()
    loop = asyncio.get_running_loop()
    signals = 0

    # Not by `loop.add_signal_handler`: while the loop is blocked, such a handler does not run.
    def on_signal(number: int, _frame: object) -> None:
        nonlocal signals
        signals += 1
        if signals > 1:
            with contextlib.suppress(OSError):
                os.write(2, b"second signal: ending at once\n")
            os._exit(128 + number)
        loop.call_soon_threadsafe(asked.set)

    numbers = (signal.SIGTERM, signal.SIGINT)
    before = {number: signal.signal(number, on_signal) for number in numbers}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.asynccontextmanager
async def on_hangup(then: Callable[[], None]) -> AsyncIterator[None]:
    """Call `then` in the event loop for each SIGHUP. Without this, SIGHUP ends the process."""
    loop = asyncio.get_running_loop()
    before = signal.signal(signal.SIGHUP, lambda *_: loop.call_soon_threadsafe(then))
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, before)


def consumer_name() -> str:
    """Return a name for this start of the process: HOST-PID-RANDOM. No other start has it."""
    return f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"
