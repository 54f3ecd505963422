"""The first signal asks a program to stop, the second ends it: tested with real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from textwrap import dedent

import pytest

from hookmill.runtime import process

START = """
import asyncio, os, signal, sys, time
from hookmill.runtime import process

def say(text):
    os.write(1, f"{text}\\n".encode())  # a signal may come in the middle of a print
"""

Start = Callable[[str], "Child"]


class Child:
    """A Python process that says how far it has come, line by line."""

    def __init__(self, script: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", START + dedent(script)],
            env={"PATH": os.environ["PATH"]},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def said(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def end(self) -> tuple[int, str, str]:
        """Return its status, and what else it has said, to us and on standard error."""
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        out, err = self.process.stdout.read(), self.process.stderr.read()
        return self.process.wait(20), out, err


@pytest.fixture
def start() -> Iterator[Start]:
    started: list[Child] = []

    def start_one(script: str) -> Child:
        started.append(Child(script))
        return started[-1]

    yield start_one
    for child in started:
        with child.process:
            child.process.kill()


WAITS = """
async def main():
    async with process.stop_signal() as stop:
        say("ready")
        await stop.wait()
        say("asked")
    say("ended")

{run}(main())
"""


@pytest.mark.parametrize("run", ["process.run", "asyncio.run"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_asks_the_program_to_stop(start: Start, run: str, number: signal.Signals) -> None:
    child = start(WAITS.format(run=run))
    assert child.said() == "ready"

    child.signal(number)

    assert child.said() == "asked"
    assert child.end() == (0, "ended\n", "")


@pytest.mark.parametrize("first", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_it_at_once(
    start: Start, first: signal.Signals, second: signal.Signals
) -> None:
    child = start("""
        async def main():
            async with process.stop_signal() as stop:
                say("ready")
                await stop.wait()
                say("asked")
                await asyncio.sleep(60)

        process.run(main())
        """)
    assert child.said() == "ready"
    child.signal(first)
    assert child.said() == "asked"

    child.signal(second)

    assert child.end() == (128 + second, "", "second signal: ending at once\n")


@pytest.mark.parametrize("run", ["process.run", "asyncio.run"])
def test_a_second_signal_ends_a_program_whose_event_loop_something_blocks(
    start: Start, run: str
) -> None:
    child = start(f"""
        def asked_once(number, frame, ours=[]):
            ours[0](number, frame)
            say("asked")

        async def main():
            async with process.stop_signal() as stop:
                asked_once.__defaults__[0].append(signal.getsignal(signal.SIGTERM))
                signal.signal(signal.SIGTERM, asked_once)
                say("ready")
                time.sleep(60)

        {run}(main())
        """)
    assert child.said() == "ready"
    child.signal(signal.SIGTERM)
    assert child.said() == "asked"  # or the two signals could arrive as one

    child.signal(signal.SIGTERM)

    assert child.end() == (143, "", "second signal: ending at once\n")


def test_signals_mean_what_they_meant_before_when_the_program_has_ended(start: Start) -> None:
    child = start("""
        def before(number, frame):
            say("as before")
            sys.exit()

        signal.signal(signal.SIGTERM, before)

        async def main():
            async with process.stop_signal():
                pass

        process.run(main())
        say("ready")
        time.sleep(60)
        """)
    assert child.said() == "ready"

    child.signal(signal.SIGTERM)

    assert child.end() == (0, "as before\n", "")


def test_an_error_passes_and_is_not_taken_for_an_end(start: Start) -> None:
    child = start("""
        async def main():
            async with process.stop_signal():
                raise RuntimeError("on the way")

        process.run(main())
        """)

    status, _, err = child.end()

    assert status == 1
    assert err.rstrip().endswith("RuntimeError: on the way")


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_a_task_that_calls_sys_exit_ends_the_program_in_order(start: Start, loop: str) -> None:
    child = start(f"""
        if {loop!r} == "asyncio":
            sys.modules["uvloop"] = None

        async def leave():
            sys.exit(3)

        async def main():
            async with process.stop_signal() as stop:
                leaving = asyncio.create_task(leave())
                await stop.wait()
                await asyncio.sleep(0.01)
                say("stopped in order")

        process.run(main())
        """)

    status, out, _ = child.end()

    assert status == 3
    assert out.endswith("stopped in order\n")


def test_a_program_that_calls_sys_exit_itself_ends_at_once(start: Start) -> None:
    child = start("""
        async def main():
            async with process.stop_signal() as stop:
                sys.exit(4)

        process.run(main())
        """)

    assert child.end() == (4, "", "")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_stop_that_takes_too_long_ends_by_force(start: Start, number: signal.Signals) -> None:
    child = start("""
        async def main():
            forced_end = process.ForcedEnd(0.1)
            forced_end.arm()
            async with process.stop_signal(signal.SIGHUP, forced_end=forced_end) as stop:
                say("ready")
                time.sleep(60)

        process.run(main())
        """)
    assert child.said() == "ready"

    child.signal(number)

    assert child.end() == (1, "", "the stop takes too long: ending at once\n")


def test_the_event_loop_is_uvloops_where_it_is_installed(start: Start) -> None:
    child = start("""
        async def main():
            say(type(asyncio.get_running_loop()).__module__)

        process.run(main())
        """)

    assert child.said() == "uvloop"


def test_it_runs_on_asyncios_loop_where_uvloop_is_not_installed(start: Start) -> None:
    child = start("""
        sys.modules["uvloop"] = None

        async def main():
            say(type(asyncio.get_running_loop()).__module__)

        process.run(main())
        """)

    assert child.said().startswith("asyncio.")


def test_no_two_starts_of_a_program_have_the_same_consumer_name() -> None:
    names = {process.consumer_name() for _ in range(100)}

    assert len(names) == 100
    assert all(f"-{os.getpid()}-" in name for name in names)
