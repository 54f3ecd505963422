"""What both programs need of their process: a fast event loop, and signals as an awaitable."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import signal
import socket
import sys
from collections.abc import AsyncIterator, Coroutine
from typing import Any


def run(main: Coroutine[Any, Any, None]) -> None:
    """Run a program to its end, on uvloop where it is installed."""
    try:
        import uvloop  # noqa: PLC0415 - it does not exist everywhere
    except ImportError:
        asyncio.run(main)
    else:
        uvloop.run(main)


@contextlib.asynccontextmanager
async def stop_signal() -> AsyncIterator[asyncio.Event]:
    """Give an event that SIGTERM or SIGINT sets; a second signal ends the process at once."""
    asked = asyncio.Event()
    loop = asyncio.get_running_loop()

    def ask(number: signal.Signals) -> None:
        if asked.is_set():
            sys.stderr.write("second signal: ending at once\n")
            os._exit(128 + number)
        asked.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ask, number)
    try:
        yield asked
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


def consumer_name() -> str:
    """Name this process start: where it runs, and something no other start has."""
    return f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"
