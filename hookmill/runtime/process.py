"""A program's process: its event loop, its signals, its garbage collector and its name."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import queue
import secrets
import signal
import socket
import threading
import traceback
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from types import FrameType
from typing import Any

from hookmill.runtime import logs


def run(main: Coroutine[Any, Any, None]) -> None:
    """Run a program to its end, on uvloop if it is installed. From now on, output that cannot be
    written does not fail.
    """
    logs.lose_what_cannot_be_written()
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
async def stop_signal(*gentle: signal.Signals) -> AsyncIterator[asyncio.Event]:
    """Give an event that SIGTERM or SIGINT sets. A second signal ends the process at once, with
    status 128 + its number. The `gentle` signals set the event too, but never end the process at
    once, because some supervisors send SIGHUP together with SIGTERM.
    """
    asked = asyncio.Event()
    loop = asyncio.get_running_loop()
    signals = 0

    # Not by `loop.add_signal_handler`: while the loop is blocked, such a handler does not run.
    def on_signal(number: int, _frame: object) -> None:
        nonlocal signals
        signals += 1
        if signals > 1:
            write_to_stderr("second signal: ending at once\n")
            os._exit(128 + number)
        loop.call_soon_threadsafe(asked.set)

    with (
        _handling(on_signal, signal.SIGTERM, signal.SIGINT),
        _handling(lambda *_: loop.call_soon_threadsafe(asked.set), *gentle),
    ):
        yield asked


@contextlib.asynccontextmanager
async def on_hangup(then: Callable[[], None]) -> AsyncIterator[None]:
    """Call `then` in the event loop for each SIGHUP. Without this, SIGHUP ends the process."""
    loop = asyncio.get_running_loop()
    with _handling(lambda *_: loop.call_soon_threadsafe(then), signal.SIGHUP):
        yield


@contextlib.contextmanager
def on_signal_aside(number: signal.Signals, then: Callable[[], None]) -> Iterator[None]:
    """Call `then` for each such signal in a thread of its own, so that it is called also while the
    event loop is blocked, and may wait for any lock.
    """
    # Only this queue may be used in a signal handler: the others have locks that the interrupted
    # code may hold.
    signals: queue.SimpleQueue[int | None] = queue.SimpleQueue()

    def wait_for_signals() -> None:
        while signals.get() is not None:
            try:
                then()
            except Exception:  # noqa: BLE001 - the thread must be there for the next signal
                write_to_stderr(traceback.format_exc())

    threading.Thread(target=wait_for_signals, name=number.name, daemon=True).start()
    try:
        with _handling(lambda got, _: signals.put(got), number):
            yield
    finally:
        signals.put(None)


def write_to_stderr(text: str) -> None:
    """Write a text to standard error, past all buffers. Where it cannot be written, it is lost."""
    with contextlib.suppress(OSError):
        rest = memoryview(text.encode("utf-8", "backslashreplace"))
        while rest:
            rest = rest[os.write(2, rest) :]


_before: dict[signal.Signals, Any] = {}
"""What was set for each signal before a program set its own handler."""


@contextlib.contextmanager
def _handling(
    handler: Callable[[int, FrameType | None], object], *numbers: signal.Signals
) -> Iterator[None]:
    """Handle these signals in this process. At the end they mean what they meant before."""
    for number in numbers:
        _before[number] = signal.signal(number, handler)
    try:
        yield
    finally:
        for number in numbers:
            signal.signal(number, _before.pop(number))


def _forget_signal_handling() -> None:
    """Undo the signal handling of the parent process.

    A forked child has no event loop that could act on a signal. With our handlers it would ignore
    SIGTERM, and `multiprocessing.Pool` would wait for the end of its processes for ever.
    """
    for number, handler in _before.items():
        signal.signal(number, handler)
    if _before:
        signal.set_wakeup_fd(-1)  # the parent's event loop reads the other end


os.register_at_fork(after_in_child=_forget_signal_handling)


def consumer_name() -> str:
    """Return a name for this start of the process: HOST-PID-RANDOM. No other start has it."""
    return f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"
