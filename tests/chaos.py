"""The chaos run: real processes, a seeded schedule of faults, and a ledger that has the last word.

    make chaos                                   100,000 messages, 50 faults
    python -m tests.chaos --messages 5000 --faults 8 --seed 7

Two receivers and three workers share one Redis with `appendfsync always`. Senders post signed
deliveries and, as a real sender would, repeat what was not answered with 200. Meanwhile workers
and receivers are killed and frozen, Redis is killed, frozen and restarted, connections are cut.
A fault strikes when a given number of deliveries has been accepted, so one seed is one schedule.
Everything runs on loopback and is bounded in count and time.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

import aiohttp
import redis

from tests.e2e.line import Line, Post
from tests.support import Program, Server, server_binaries, wait_until

LEASE = 2.0
RECEIVERS, WORKERS = 2, 3
SENDERS = 40
LONGEST = 1500.0
"""Seconds after which a run is given up."""

SLACK = LEASE * 3
"""Seconds after a fault in which its consequences (a lost acknowledgement, say) may show."""


class Fault(NamedTuple):
    """What strikes, whom, and after how many accepted deliveries."""

    after: int
    kind: str
    target: int
    seconds: float


class Struck(NamedTuple):
    """A fault that happened, with its span in Unix time."""

    fault: Fault
    began: float
    ended: float


class Run(NamedTuple):
    """One line of the ledger's story: a handler began, and ended if it did."""

    pid: int
    began: float
    ended: float | None


class Verdict(NamedTuple):
    """What the ledger says at the end."""

    accepted: int
    handled: int
    dead: int
    lost: int
    again: int
    unexplained: int
    faults: int
    seconds: float


def schedule(seed: int, faults: int, messages: int) -> list[Fault]:
    """Draw the faults. They spread over the run, in an order and at targets the seed decides."""
    draw = random.Random(seed)
    kinds = ["kill worker"] * 4 + ["freeze worker"] * 3 + ["kill receiver"] * 2
    kinds += ["freeze receiver", "kill redis", "freeze redis", "cut connections", "stop worker"]
    chosen = [kinds[n % len(kinds)] for n in range(faults)]
    draw.shuffle(chosen)
    step = messages / (faults + 1)
    return [
        Fault(
            after=int(step * (number + draw.uniform(0.6, 1.0))),
            kind=kind,
            target=draw.randrange(6),
            seconds=round(draw.uniform(0.3, 2.0 * LEASE), 1),
        )
        for number, kind in enumerate(chosen)
    ]


class Chaos:
    """One run from start to verdict."""

    def __init__(self, folder: Path, *, messages: int, faults: int, seed: int, binary: str) -> None:
        self.folder = folder
        self.messages = messages
        self.schedule = schedule(seed, faults, messages)
        self.server = Server(
            binary, folder, *("--appendonly", "yes", "--appendfsync", "always", "--save", "")
        )
        self.env = {
            "HOOKMILL_LEASE": str(LEASE),
            "HOOKMILL_CONCURRENCY": "50",
            "HOOKMILL_LOG_LEVEL": "warning",
            "HOOKMILL_SHUTDOWN": "5",
            "LEDGER_PAUSE": "0.05",
        }
        self.lines: list[Line] = []
        self.receivers: list[Program] = []
        self.workers: list[Program] = []
        self.everybody: list[Program] = []
        self.accepted: set[str] = set()
        self.struck: list[Struck] = []
        self._sendable = 0
        self._go = asyncio.Event()

    async def run(self) -> Verdict:
        """Send, strike, wait for the end, and read the ledger."""
        began = time.monotonic()
        self.server.start()
        ledger_source = Path(__file__).parent / "e2e" / "ledger.py"
        shutil.copy(ledger_source, self.folder / "ledger.py")
        try:
            for _ in range(RECEIVERS):
                line = Line(self._start, self.folder, self.server.url, "chaos")
                self.lines.append(line)
                self.receivers.append(line.receiver(HOOKMILL_LOG_LEVEL="info"))
            self.workers = [self._worker() for _ in range(WORKERS)]
            async with asyncio.timeout(LONGEST):
                striking = asyncio.create_task(self._strike())
                await self._send()
                await striking
                await asyncio.to_thread(self._wait_for_end)
            return self._verdict(time.monotonic() - began)
        finally:
            for program in self.everybody:
                program.kill()
            self.server.kill()

    def _start(self, *command: str, env: dict[str, str], name: str = "") -> Program:
        program = Program(self.folder, *command, env=env, name=name)
        self.everybody.append(program)
        return program

    def _worker(self) -> Program:
        line = self.lines[0]
        return self._start("worker", "ledger:handlers", env=line.env | self.env)

    async def _send(self) -> None:
        """Post every delivery until it is accepted; one in ten once more, as senders do."""
        numbers = iter(range(self.messages))
        connector = aiohttp.TCPConnector(limit=SENDERS)
        timeout = aiohttp.ClientTimeout(total=4)

        async def sender(session: aiohttp.ClientSession) -> None:
            for number in numbers:
                while number >= self._sendable:
                    self._go.clear()
                    await self._go.wait()
                line = self.lines[number % RECEIVERS]
                post = line.order(number) if number % 2 else line.post_published(number)
                await self._post(session, line, post)
                if number % 10 == 0:
                    await self._post(session, line, post)

        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
            await asyncio.gather(*(sender(session) for _ in range(SENDERS)))

    async def _post(self, session: aiohttp.ClientSession, line: Line, post: Post) -> None:
        while True:
            try:
                async with session.post(
                    line.base + post.path, data=post.body, headers=post.headers
                ) as answer:
                    if answer.status == 200:
                        self.accepted.add(post.message_id)
                        return
                    assert answer.status == 503, await answer.text()
            except (aiohttp.ClientError, TimeoutError):
                pass  # nobody there, or no answer: the sender still holds it
            await asyncio.sleep(0.2)

    async def _strike(self) -> None:
        for fault in self.schedule:
            self._sendable = fault.after
            self._go.set()
            while len(self.accepted) < fault.after:  # noqa: ASYNC110 - senders have better to do
                await asyncio.sleep(0.01)
            # While it lasts, deliveries go on coming: a share of what is left until the next.
            self._sendable = fault.after + self.messages // (3 * len(self.schedule))
            self._go.set()
            began = time.time()
            await asyncio.to_thread(self._do, fault)
            self.struck.append(Struck(fault, began, time.time()))
            _say(f"{len(self.accepted):>7} accepted  {fault.kind} ({fault.seconds} s)")
        self._sendable = self.messages
        self._go.set()

    def _do(self, fault: Fault) -> None:
        match fault.kind:
            case "kill worker":
                self._replace_worker(fault, Program.kill)
            case "stop worker":
                self._replace_worker(fault, Program.stop)
            case "kill receiver":
                at = fault.target % RECEIVERS
                self.receivers[at].kill()
                self.receivers[at] = self.lines[at].receiver(HOOKMILL_LOG_LEVEL="info")
            case "freeze worker":
                self._freeze(self.workers[fault.target % WORKERS], fault.seconds)
            case "freeze receiver":
                self._freeze(self.receivers[fault.target % RECEIVERS], fault.seconds)
            case "freeze redis":
                self._freeze(self.server, fault.seconds)
            case "kill redis":
                self.server.kill()
                time.sleep(fault.seconds)
                self.server.start()
            case "cut connections":
                with redis.Redis.from_url(self.server.url) as client:
                    client.client_kill_filter(_type="normal", skipme=True)

    def _replace_worker(self, fault: Fault, end: object) -> None:
        at = fault.target % WORKERS
        assert callable(end)
        end(self.workers[at])
        self.workers[at] = self._worker()

    def _freeze(self, what: Program | Server, seconds: float) -> None:
        what.signal(signal.SIGSTOP)
        time.sleep(seconds)
        what.signal(signal.SIGCONT)

    def _wait_for_end(self) -> None:
        with redis.Redis.from_url(self.server.url) as client:

            def is_over() -> bool:
                left = sum(
                    client.xpending(f"chaos:{{0}}:{key}", "main")["pending"]
                    for key in ("stream", "main:again")
                )
                left += client.zcard("chaos:{0}:main:delayed")
                left += client.xlen("chaos:{0}:main:again") + client.xlen("chaos:{0}:stream")
                return bool(left == 0)

            wait_until(is_over, timeout=180, what="everything handled and trimmed")

    def _verdict(self, seconds: float) -> Verdict:
        runs = self._runs()
        with redis.Redis.from_url(self.server.url) as client:
            dead = {fields[b"id"].decode() for _, fields in client.xrange("chaos:{0}:main:dead")}
        handled = {one for one, each in runs.items() if any(run.ended for run in each)}
        twice = {one: each for one, each in runs.items() if len(each) > 1}
        return Verdict(
            accepted=len(self.accepted),
            handled=len(handled),
            dead=len(dead),
            lost=len(self.accepted - handled - dead),
            again=len(twice),
            unexplained=sum(not self._explained(each) for each in twice.values()),
            faults=len(self.struck),
            seconds=seconds,
        )

    def _runs(self) -> dict[str, list[Run]]:
        """Read the ledger: for each message ID the times a handler began and ended."""
        runs: defaultdict[str, list[Run]] = defaultdict(list)
        for row in (self.folder / "ledger.txt").read_text().splitlines():
            what, message_id, _, pid, moment = row.split()
            if what == "begin":
                runs[message_id].append(Run(int(pid), float(moment), None))
            else:
                at = max(n for n, run in enumerate(runs[message_id]) if run.pid == int(pid))
                runs[message_id][at] = runs[message_id][at]._replace(ended=float(moment))
        return runs

    def _explained(self, runs: list[Run]) -> bool:
        """Say whether every run but the last was cut off, or left unacknowledged, by a fault."""
        return all(
            any(
                run.began <= struck.ended + SLACK
                and (run.ended or run.began) >= struck.began - SLACK
                for struck in self.struck
            )
            for run in runs[:-1]
        )


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> int:
    """Run it from the command line; exit 1 when a message was lost or ran twice without cause."""
    parser = argparse.ArgumentParser(description="The chaos run.")
    parser.add_argument("--messages", type=int, default=100_000)
    parser.add_argument("--faults", type=int, default=50)
    parser.add_argument("--seed", type=int, default=20261121)
    parser.add_argument("--server", choices=list(server_binaries()), default="valkey")
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="chaos-"))
    chaos = Chaos(
        folder,
        messages=given.messages,
        faults=given.faults,
        seed=given.seed,
        binary=server_binaries()[given.server],
    )
    verdict = asyncio.run(chaos.run())
    for name, value in verdict._asdict().items():
        print(f"{name:>12}  {value:.0f}" if name == "seconds" else f"{name:>12}  {value}")
    if verdict.lost or verdict.unexplained:
        _say(f"the logs and the ledger are in {folder}")
        return 1
    shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
