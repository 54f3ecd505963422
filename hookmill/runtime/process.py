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
import time
import traceback
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from functools import partial
from types import FrameType
from typing import Any, NamedTuple

import structlog

from hookmill.printable import printable
from hookmill.runtime import logs, supervised

log = structlog.get_logger("runtime")


def run(main: Coroutine[Any, Any, None]) -> None:
    """Run a program to its end, on uvloop if it is installed. From now on, output that cannot be
    written does not fail.
    """
    logs.lose_what_cannot_be_written()
    loop_factory = None
    with contextlib.suppress(ImportError):
        import uvloop  # noqa: PLC0415 - not available on every system

        loop_factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        _run_to_its_end(runner.get_loop(), main)


def _run_to_its_end(loop: asyncio.AbstractEventLoop, main: Coroutine[Any, Any, None]) -> None:
    """Run a program, also where a task that the user's code started calls `sys.exit`.

    That stops the event loop in the middle of everything. So it runs again, until the program has
    stopped in order, and only then the process ends with the status that was asked for.
    """
    task = loop.create_task(main, name="main")
    asked_to_end: BaseException | None = None
    while not task.done():
        try:
            loop.run_until_complete(task)
        except (SystemExit, KeyboardInterrupt) as error:
            if task.done() or not _stops:
                raise
            log.error("a task asked the process to end: stopping", error=repr(error))
            asked_to_end = error
            ask_to_stop()
    if asked_to_end is not None:
        raise asked_to_end


class _Stop(NamedTuple):
    """How the running program is asked to stop, as its first signal does, and a further one."""

    ask: Callable[[], None]
    ask_again: Callable[[int], None]


_stops: list[_Stop] = []


def ask_to_stop() -> None:
    """Ask the running program to stop. Any thread may call it, also before the program runs."""
    for stop in _stops:
        stop.ask()
    if not _stops:
        os.kill(os.getpid(), signal.SIGTERM)


def ask_to_stop_at_once() -> None:
    """Do what a second signal does. Any thread may call it."""
    for stop in _stops:
        stop.ask_again(signal.SIGTERM)
    if not _stops:
        os.kill(os.getpid(), signal.SIGTERM)


def collect_garbage_less_often() -> None:
    """Raise the thresholds of the garbage collector. Messages leave hardly any cycles, but with
    Python's thresholds the collector often stops the program for milliseconds.
    """
    gc.set_threshold(10_000, 20, 20)


@contextlib.asynccontextmanager
async def stop_signal(
    *gentle: signal.Signals,
    forced_end: ForcedEnd | None = None,
    hurry: Callable[[], bool] = bool,
) -> AsyncIterator[asyncio.Event]:
    """Give an event that SIGTERM or SIGINT sets. A second signal ends the process at once, with
    status 128 + its number. The `gentle` signals set the event too, but never end the process at
    once, because some supervisors send SIGHUP together with SIGTERM. From the first signal on, the
    stop has the time that `forced_end` gives it. A further signal does not end the process where
    `hurry` can shorten the stop: it returns whether it could.
    """
    asked, signals = asyncio.Event(), 0
    loop = asyncio.get_running_loop()

    # Not by `loop.add_signal_handler`: while the loop is blocked, such a handler does not run.
    def on_signal(number: int, _frame: object) -> None:
        nonlocal signals
        signals += 1
        if signals > 1:
            stop_at_once(number)
        else:
            stop()

    def stop() -> None:
        if forced_end is not None:
            forced_end.start()
        supervised.say_leaving()
        loop.call_soon_threadsafe(asked.set)

    stop_at_once = partial(_stop_at_once, hurry)
    stops = _Stop(stop, stop_at_once)
    _stops.append(stops)
    try:
        with (
            _handling(on_signal, signal.SIGTERM, signal.SIGINT),
            _handling(lambda *_: stop(), *gentle),
        ):
            yield asked
    finally:
        _stops.remove(stops)


def _stop_at_once(hurry: Callable[[], bool], number: int) -> None:
    if not hurry():
        write_to_stderr("second signal: ending at once\n")
        os._exit(128 + number)


def hangup() -> tuple[signal.Signals, ...]:
    """Return the signal of a terminal that is closed; nothing where it is ignored, as by nohup."""
    is_ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    return () if is_ignored else (signal.SIGHUP,)


class ForcedEnd:
    """Ends the process if a stop takes longer than `seconds`, whatever holds it up: a blocked event
    loop, a task that swallows its cancellation, or a thread that does not end.

    The exit status is then 1, unless `end_within` says another.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._status = 1
        self._latest = 0.0
        # Only such a queue may be used in a signal handler: other locks may be held by the code
        # that the signal interrupted.
        self._starts: queue.SimpleQueue[float] = queue.SimpleQueue()

    def arm(self) -> None:
        """Have it end this process. Without this call, nothing happens."""
        threading.Thread(target=self._end, name="forced end", daemon=True).start()

    def start(self) -> None:
        """Begin to count; a second call changes nothing. A signal handler may call it."""
        self._starts.put(time.monotonic())

    def end_within(self, seconds: float, status: int) -> None:
        """Give what is left of the stop so many seconds from now on."""
        self._latest, self._status = time.monotonic() + seconds, status
        self.start()

    def _end(self) -> None:
        started = self._starts.get()
        while time.monotonic() < (self._latest or started + self.seconds):  # they may change
            time.sleep(0.05)
        write_to_stderr("the stop takes too long: ending at once\n")
        os._exit(self._status)


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
    """Write a text to standard error, past all buffers; control characters appear as escapes.
    Where it cannot be written, it is lost.
    """
    with contextlib.suppress(OSError):
        rest = memoryview(printable(text, keep="\n\t").encode())
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
    _allow_signals()


class _Forking(threading.local):
    """The signals that this thread had blocked before it began to fork."""

    blocked: set[int | signal.Signals] | None = None


_forking = _Forking()


def _block_signals() -> None:
    # A signal that reaches a child between the fork and its own signal handling would be ignored.
    if _before:
        _forking.blocked = signal.pthread_sigmask(signal.SIG_BLOCK, _before)


def _allow_signals() -> None:
    if _forking.blocked is not None:
        signal.pthread_sigmask(signal.SIG_SETMASK, _forking.blocked)
        _forking.blocked = None


os.register_at_fork(
    before=_block_signals,
    after_in_parent=_allow_signals,
    after_in_child=_forget_signal_handling,
)


def consumer_name() -> str:
    """Return a name for this start of the process: HOST-PID-RANDOM. No other start has it."""
    return f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"
