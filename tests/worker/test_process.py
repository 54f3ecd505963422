"""A worker as a real process: what handlers do to their process, and what others do to it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.running import hookmill
from tests.support import Program, wait_until
from tests.worker.processes import START, WorkerProcesses

# --- children of a handler ------------------------------------------------------------------


def test_a_process_pool_in_a_plain_handler_ends_and_its_children_heed_sigterm(
    processes: WorkerProcesses,
) -> None:
    """dagster-io/dagster#25749: a child with its parent's signal handling ignores SIGTERM."""
    worker = processes.start("""
        import multiprocessing

        def sleep():
            time.sleep(600)

        @handlers.on("pool")
        def pool(delivery):
            with multiprocessing.get_context("fork").Pool(2) as pool:
                say(f"squares {pool.map(abs, [-1, -2])}")

        @handlers.on("child")
        def child(delivery):
            codes = set()
            for _ in range(100):  # the signal comes at different moments of their start
                child = multiprocessing.get_context("fork").Process(target=sleep)
                child.start()
                child.terminate()
                child.join()
                codes.add(child.exitcode)
            say(f"children {codes}")
        """)
    processes.send("pool", "child")
    worker.wait_for("squares [1, 2]")
    worker.wait_for("children {-15}")
    wait_until(processes.is_drained)
    assert worker.stop() == 0


# --- failed handlers ------------------------------------------------------------------------

FAILING = """
async def check(part):
    raise ValueError(f"no {part[:1]!r}")

@handlers.on("async", attempts=1)
async def on_the_loop(delivery):
    part = delivery.event.body[1:]
    task = asyncio.create_task(check(part))
    try:
        await task
    except ValueError as error:
        raise RuntimeError("failed") from error

@handlers.on("plain", attempts=1)
def in_a_thread(delivery):
    part = delivery.event.body[1:]
    raise ValueError(f"no {part[:1]!r}")
"""


@pytest.mark.parametrize("kind", ["async", "plain"])
def test_failed_handlers_free_their_memory_at_once(processes: WorkerProcesses, kind: str) -> None:
    """Bogdanp/dramatiq#878: tracebacks keep the bodies of failed messages."""
    worker = processes.start(FAILING, HOOKMILL_CONCURRENCY="4", HOOKMILL_THREADS="4")
    worker.wait_for("working")
    for _ in range(50):
        processes.send(*[kind] * 4, body=b"x" * 4_000_000)
        wait_until(processes.is_drained)  # what waits to be settled takes memory, too
    assert _megabytes(worker, "VmHWM") < 250
    assert _megabytes(worker, "VmRSS") < 150


def _megabytes(program: Program, name: str) -> int:
    """Return what the kernel says of a process: VmRSS is its memory, VmHWM the most it had."""
    status = Path(f"/proc/{program.pid}/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1]) // 1024


# --- signals --------------------------------------------------------------------------------


def test_a_hangup_drains_the_worker(processes: WorkerProcesses) -> None:
    worker = processes.start("""
        @handlers.on("slow")
        async def slow(delivery):
            say("began")
            await asyncio.sleep(1)
            say("ended")
        """)
    processes.send("slow")
    worker.wait_for("began")
    worker.signal(signal.SIGHUP)
    worker.signal(signal.SIGHUP)
    assert worker.wait() == 0
    assert "ended" in worker.log
    assert processes.is_drained()


def test_sigusr1_writes_what_runs_even_while_the_event_loop_is_blocked(
    processes: WorkerProcesses,
) -> None:
    worker = processes.start(
        """
        async def ask_the_bank():
            await asyncio.sleep(600)

        @handlers.on("async")
        async def on_the_loop(delivery):
            say("async began")
            await ask_the_bank()

        @handlers.on("plain")
        def in_a_thread(delivery):
            say("plain began")
            read_the_file()

        def read_the_file():
            time.sleep(600)

        @handlers.on("blocking")
        async def blocking(delivery):
            say("blocking began")
            time.sleep(20)
        """,
        HOOKMILL_LEASE="3",
    )
    processes.send("async", "plain", "blocking")
    for kind in ("async", "plain", "blocking"):
        worker.wait_for(f"{kind} began")
    worker.signal(signal.SIGUSR1)
    worker.wait_for("thread MainThread")
    worker.wait_for("in read_the_file")
    worker.wait_for("thread leases")
    said = worker.log
    assert re.search(r"message m0-\S+, handler on_the_loop, for \d+\.\d s\n", said)
    assert re.search(r"message m1-\S+, handler in_a_thread, for \d+\.\d s\n", said)
    assert re.search(r"message m2-\S+, handler blocking, for \d+\.\d s\n", said)
    assert re.search(r"thread handler_0, message m1-\S+, handler in_a_thread, for", said)
    assert "task delayed\n" in said
    for function in ("ask_the_bank", "read_the_file", "blocking"):
        assert f", in {function}\n" in said

    # An operator elsewhere is told by the thread of the leases.
    (name,) = re.findall(r'"consumer":"([^"]+)"', said)[:1]
    told = hookmill("stacks", name, env={"REDIS_URL": processes.server.url, "HOOKMILL_LEASE": "3"})
    assert told.returncode == 0, told.stderr
    assert re.search(r"message m2-\S+, handler blocking, for \d+\.\d s\n", told.stdout)
    assert re.search(r"\n  [^/\n]+/app.py, line \d+, in blocking\n", told.stdout)
    assert "time.sleep" not in told.stdout
    assert worker.returncode is None


# --- a log that cannot be written -----------------------------------------------------------

CHATTY = """
import structlog

log = structlog.get_logger("app")
ledger = os.open("ledger", os.O_WRONLY | os.O_APPEND | os.O_CREAT)

@handlers.on("work")
async def work(delivery):
    log.info("working on it")
    print("by hand", flush=True)
    print("flushed later")
    print("an error", file=sys.stderr, flush=True)
    os.write(ledger, f"{delivery.id}\\n".encode())

@handlers.on("fail", attempts=1)
def fail(delivery):
    os.write(ledger, f"{delivery.id}\\n".encode())
    raise ValueError("a line as well")
"""

CANNOT_WRITE = {
    "full disk": "exec >/dev/full 2>&1",
    "closed": "exec >&- 2>&-",
    "no reader": "exec > >(exec true) 2>&1; sleep 0.3",
}


@pytest.mark.parametrize("output", CANNOT_WRITE)
def test_a_log_that_cannot_be_written_costs_lines_and_nothing_else(
    processes: WorkerProcesses, tmp_path: Path, output: str
) -> None:
    """graphile/worker#440: a log without a reader ends the worker."""
    (tmp_path / "app.py").write_text(START + CHATTY)
    command = f"{CANNOT_WRITE[output]}; exec {sys.executable} -m hookmill worker app:handlers"
    env = {**os.environ, "REDIS_URL": processes.server.url}
    with subprocess.Popen(["bash", "-c", command], cwd=tmp_path, env=env) as worker:
        try:
            ledger = tmp_path / "ledger"
            processes.send("work", "fail", "work", "fail")
            wait_until(lambda: ledger.exists() and ledger.read_text().count("\n") == 4)
            wait_until(processes.is_drained)
            processes.send("work")
            wait_until(lambda: ledger.read_text().count("\n") == 5)
            wait_until(processes.is_drained)
            worker.send_signal(signal.SIGTERM)
            assert worker.wait(30) == 0
        finally:
            worker.kill()
    assert len(set(ledger.read_text().split())) == 5
