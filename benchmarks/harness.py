"""The base of all benchmarks: servers and programs on their own cores, rounds, and statistics.

The result is a table, a JSON file and a plot. Servers listen on loopback only. Leaving the `Bench`
ends every started process by its ID. The measured program has the first core; Redis and the load
generator share the second.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, Self

import msgspec
import redis

from benchmarks import interpreter
from benchmarks.tables import Report, Table, draw, in_words
from tests.support import Server, server_binaries, wait_until

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"
PLOTS = ROOT / "docs" / "explanation" / "performance"

CORES = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [0]
SUBJECT = CORES[0]
"""The core of the measured program."""
OTHERS = CORES[1 % len(CORES)]
"""The core of Redis and the load generator."""

_PERSISTENCE = {
    "no": ("--save", "", "--appendonly", "no"),
    "everysec": (
        *("--save", "", "--appendonly", "yes", "--appendfsync", "everysec"),
        *("--auto-aof-rewrite-percentage", "0"),  # it would fall into one turn and not into another
    ),
}
_TICKS = os.sysconf("SC_CLK_TCK")
_SHOWN_VERSIONS = ("aiohttp", "hiredis", "msgspec", "pyjwt", "redis", "structlog", "uvloop")
_PASSED_ON = ("PATH", "HOME", "LANG", "GOPATH", "GOPROXY", "GOFLAGS", "GOCACHE", "SSL_CERT_FILE")


class Bench:
    """A run of a benchmark: its options, its processes, its results."""

    def __init__(self, name: str, given: argparse.Namespace, pinned: Mapping[str, str]) -> None:
        self.quick = bool(given.quick)
        self.rounds = int(given.rounds)
        self._given = given
        self._stack = ExitStack()
        self._began = time.monotonic()
        self.folder = Path()
        self.report = Report(
            name=name,
            command=f"python -m benchmarks.{name}",
            date=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
            machine=machine(),
            versions=versions(),
            pinned=dict(pinned),
            rounds=self.rounds,
        )

    def __enter__(self) -> Self:
        self.folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        if threading.current_thread() is threading.main_thread():
            # SIGTERM ends the started processes as well.
            before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
            self._stack.callback(signal.signal, signal.SIGTERM, before)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def table(self, title: str, unit: str, **options: Any) -> Table:
        """Add a table."""
        table = Table(title, unit, **options)
        self.report.tables.append(table)
        return table

    def note(self, text: str) -> None:
        """Add a note to the result, such as why a peer is missing. Repeated notes count once."""
        if text not in self.report.notes:
            self.report.notes.append(text)
            progress(text)

    def each_round(self) -> Iterator[int]:
        """Yield the rounds. Every subject runs once in each round, so that a change of the
        machine's speed affects all of them.
        """
        for number in range(self.rounds):
            progress(f"{self.report.name}: round {number + 1} of {self.rounds}")
            yield number

    @contextmanager
    def redis(self, persistence: str = "no", core: int = OTHERS) -> Iterator[Server]:
        """Run a server inside the block: without persistence, or with `everysec` for an append-only
        file that is synced each second.
        """
        name, binary = next(iter(sorted(server_binaries().items())))
        server = Server(binary, Path(tempfile.mkdtemp(dir=self.folder)), *_PERSISTENCE[persistence])
        with pinned_to(core):
            server.start()
        with redis.Redis.from_url(server.url) as client:
            info: Any = client.info("server")
        said = info.get("valkey_version") or info["redis_version"]
        kept = "no persistence" if persistence == "no" else f"AOF {persistence}"
        self.report.versions["server"] = f"{name} {said}, {kept}"
        try:
            yield server
        finally:
            server.kill()

    @contextmanager
    def program(
        self, *command: str | Path, core: int | None, env: Mapping[str, str] | None = None
    ) -> Iterator[Program]:
        """Run a program inside the block."""
        program = Program(self.folder, command, core, env or {})
        try:
            yield program
        finally:
            program.stop()

    def hookmill(self, *command: str, core: int | None = SUBJECT, env: Mapping[str, str]) -> Any:
        """Run one of our programs as a user does: with logs at level info, into a file."""
        return self.program(sys.executable, "-m", "hookmill", *command, core=core, env=env)

    def finish(self) -> Report:
        """Print the result, and write it to the given files."""
        self.report.seconds = round(time.monotonic() - self._began, 1)
        for table in self.report.tables:
            print(f"\n{in_words(table)}")
        for note in self.report.notes:
            print(f"  {note}")
        # A quick run must not overwrite measured results.
        json, svg = self._given.json, self._given.svg
        if json is None and not self.quick:
            json = RESULTS / f"{self.report.name}.json"
        if svg is None and not self.quick:
            svg = PLOTS
        if json:
            path = Path(json)
            path.parent.mkdir(parents=True, exist_ok=True)
            text = msgspec.json.format(msgspec.json.encode(self.report), indent=2)
            path.write_bytes(text + b"\n")
        if svg:
            draw(self.report, Path(svg))
        return self.report


class Program:
    """A process on a given core. Its output goes to a file."""

    def __init__(
        self,
        folder: Path,
        command: Sequence[str | Path],
        core: int | None,
        env: Mapping[str, str],
    ) -> None:
        self._log = Path(tempfile.mkstemp(prefix="log-", dir=folder)[1])
        passed_on = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
        with self._log.open("wb") as log, pinned_to(core):
            self._process = subprocess.Popen(
                [str(part) for part in command],
                env={**passed_on, "PYTHONPATH": str(ROOT), "HOOKMILL_LOG_FORMAT": "json", **env},
                cwd=folder,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    @property
    def pid(self) -> int:
        """The process ID."""
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether it is still running."""
        return self._process.poll() is None

    @property
    def log(self) -> str:
        """The end of its output."""
        return self._log.read_text(errors="replace")[-2000:]

    def wait_for(self, condition: Callable[[], Any], timeout: float = 60.0) -> None:
        """Wait until a condition is true; raise if the program ends before."""
        wait_until(
            lambda: not self.is_running or condition(), timeout=timeout, what=f"...{self.log}"
        )
        if not self.is_running and not condition():
            raise RuntimeError(f"it ended with {self._process.returncode}: ...{self.log}")

    def wait(self, timeout: float = 60.0) -> int:
        """Wait until it ends; return its exit code."""
        return self._process.wait(timeout)

    def stop(self) -> None:
        """Send SIGTERM, and SIGKILL after ten seconds."""
        if self.is_running:
            self._process.send_signal(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(10)
        if self.is_running:
            self._process.kill()
            self._process.wait()


def options(doc: str | None, rounds: int, name: str) -> argparse.ArgumentParser:
    """Return the parser of a benchmark's command line."""
    parser = argparse.ArgumentParser(description=(doc or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=rounds, help=f"default {rounds}")
    parser.add_argument("--quick", action="store_true", help="tiny: shows that it works")
    parser.add_argument("--json", metavar="FILE", help=f"default {name}.json in the results folder")
    parser.add_argument(
        "--svg", metavar="FOLDER", help="for the plots; default docs/explanation/performance"
    )
    return parser


@contextmanager
def pinned_to(core: int | None) -> Iterator[None]:
    """Pin the processes that are started inside the block to this core. It works on Linux only."""
    if core is None or not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def pins(**cores: int) -> dict[str, str]:
    """Return the core of each program, for the report."""
    return {what.replace("_", " "): f"core {core}" for what, core in cores.items()}


def cpu_seconds(pid: int) -> float:
    """Return the CPU time of a process, user and system, in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def peak_mb(pid: int) -> float:
    """Return the highest resident memory of a process so far, in MB."""
    return _status_mb(pid, "VmHWM")


def resident_mb(pid: int) -> float:
    """Return the resident memory of a process now, in MB."""
    return _status_mb(pid, "VmRSS")


def _status_mb(pid: int, field: str) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise ValueError(f"/proc/{pid}/status has no {field}")


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value below which this share of the values is."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def round_trips(client: redis.Redis) -> int:
    """Return how often the server has read from its clients, which is about the round trips."""
    info: Any = client.info("stats")
    return int(info["total_reads_processed"])


def tool(name: str) -> str | None:
    """Return the path of a program such as wrk."""
    return shutil.which(name)


def machine() -> dict[str, str]:
    """Return the processor, the number of cores, the system and the interpreter."""
    cpu = platform.processor()
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                cpu = line.partition(": ")[2]
                break
    return {
        "cpu": cpu,
        "cores": str(len(CORES)),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "interpreter": interpreter.described(),
    }


def versions() -> dict[str, str]:
    """Return the versions of Hookmill and its main dependencies."""
    return {name: metadata.version(name) for name in ("hookmill", *_SHOWN_VERSIONS)}


def progress(text: str) -> None:
    """Print progress to stderr."""
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def chunks(total: int, size: int) -> Iterable[range]:
    """Split `count` numbers into ranges of a size."""
    return (range(first, min(first + size, total)) for first in range(0, total, size))
