"""Everything that a chaos run starts: servers, proxies, a small disk, receivers and workers."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from tests.chaos.proxy import Proxy
from tests.chaos.schedule import LEASE
from tests.chaos.servers import Servers
from tests.e2e.line import Line
from tests.support import Program

ROOT = Path(__file__).parent.parent.parent

DURABILITY = ("memory", "aof")
"""What each of the receivers waits for."""

RECEIVERS, WORKERS = len(DURABILITY), 3
PREFIX = "chaos"
MALLOC = {"MALLOC_MMAP_THRESHOLD_": "1048576", "MALLOC_TRIM_THRESHOLD_": "4194304"}
"""With these, as in `deploy/fly.toml`, glibc gives back the memory of large bodies as soon as it is
free. Else it keeps some, and a soak cannot tell that from memory that a program does not free.
"""

RETENTION = "20"
"""Seconds for which handled messages are kept, so that they can be replayed."""

DISK = "24m"
"""Size of the disk on which the receivers have their spool."""


class Death(NamedTuple):
    """When a worker ended, in Unix time, and why."""

    moment: float
    why: str


class Site:
    """The programs and what they stand on. The receivers share a spool and reach Redis through one
    proxy, the workers through another. With `spares_first`, no fault ends the first receiver and
    the first worker, so that memory which they do not free shows.
    """

    def __init__(
        self, folder: Path, binary: str, partitions: int, *, spares_first: bool = False
    ) -> None:
        self.folder = folder
        self.spares_first = spares_first
        self.servers = Servers(binary, folder)
        self.partitions = partitions
        self.disk = folder / "disk"
        self.disk_is_small = False
        self.proxies: list[Proxy] = []
        self.lines: list[Line] = []
        self.receivers: list[Program] = []
        self.workers: list[Program] = []
        self.deaths: dict[int, Death] = {}
        self._programs: list[Program] = []
        self._lock = threading.RLock()  # the watch and a fault may replace a worker at once

    def start_servers(self) -> None:
        self.servers.start()
        self.disk.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", str(self.disk)]
        with suppress(OSError):
            done = subprocess.run(command, capture_output=True, check=False)
            self.disk_is_small = done.returncode == 0

    async def open_proxies(self) -> None:
        """Open the proxy of the receivers and that of the workers."""
        for _ in range(2):
            proxy = Proxy(self.servers.master.port)
            await proxy.open()
            self.proxies.append(proxy)

    def start_programs(self) -> None:
        for durability in DURABILITY:
            url = f"redis://127.0.0.1:{self.proxies[0].port}/0"
            line = Line(self._start, self.folder, url, PREFIX)
            line.env |= MALLOC | {
                "HOOKMILL_PARTITIONS": str(self.partitions),
                "HOOKMILL_SOURCES__MARBLE__ORDERED_BY": "data.id",
                "HOOKMILL_DURABILITY": durability,
                "HOOKMILL_APPEND_TIMEOUT": "1.5",  # the default: senders give up after 4
                "HOOKMILL_SPOOL": str(self.disk / "spool.db"),
            }
            self.lines.append(line)
            self.receivers.append(line.receiver())
        self.workers = [self._worker(number) for number in range(WORKERS)]

    def _start(self, *command: str, env: dict[str, str], name: str = "") -> Program:
        program = Program(self.folder, *command, env=env, name=name)
        self._programs.append(program)
        return program

    def to_end(self, what: str, number: int) -> Program:
        """Return the worker or the receiver that a fault with this number ends."""
        programs = self.workers if what == "worker" else self.receivers
        programs = programs[1:] if self.spares_first else programs
        return programs[number % len(programs)]

    def _worker(self, number: int) -> Program:
        env = {
            "REDIS_URL": f"redis://127.0.0.1:{self.proxies[1].port}/0",
            "PYTHONPATH": str(ROOT),
            "HOOKMILL_LEASE": str(LEASE),
            "HOOKMILL_CONCURRENCY": "50",
            "HOOKMILL_SHUTDOWN": "5",
            "HOOKMILL_RETENTION": RETENTION,
            "HOOKMILL_STUCK_THREADS": "1",
            "LEDGER_PAUSE": "0.05",
            "CHAOS_HARM": "no" if self.spares_first and number == 0 else "yes",
        }
        handlers = "tests.chaos.workload:handlers"
        return self._start("worker", handlers, env=self.lines[0].env | env)

    def end(self, program: Program, why: str) -> None:
        """Kill a program, or stop it if `why` is "stop". Start another in its place."""
        with self._lock:
            if program not in [*self.workers, *self.receivers]:
                return  # the watch has replaced it
            program.stop() if why == "stop" else program.kill()
            self.deaths[program.pid] = Death(time.time(), why)
            self._replace(program)

    def replace_ended(self) -> list[tuple[Program, int]]:
        """Replace the programs that ended without being asked to. Return them with their status."""
        with self._lock:
            ended = [(one, one.returncode) for one in [*self.workers, *self.receivers]]
            found = [(one, status) for one, status in ended if status is not None]
            for program, _ in found:
                self.deaths[program.pid] = Death(time.time(), "ended")
                self._replace(program)
            return found

    def _replace(self, gone: Program) -> None:
        if gone in self.workers:
            at = self.workers.index(gone)
            self.workers[at] = self._worker(at)
        else:
            at = self.receivers.index(gone)
            self.receivers[at] = self.lines[at].receiver()

    async def close(self) -> None:
        for proxy in self.proxies:
            await proxy.close()
        await asyncio.to_thread(self._end_all)

    def _end_all(self) -> None:
        for program in self._programs:
            program.kill()
        self.servers.kill()
        if self.disk_is_small:
            subprocess.run(["umount", "--lazy", str(self.disk)], check=False)
        shutil.rmtree(self.disk, ignore_errors=True)
