"""The chaos run: real processes, a seeded schedule of faults, and a ledger that decides the result.

    make chaos                                   100,000 messages, 50 faults
    python -m tests.chaos --messages 5000 --faults 8 --seed 7 --partitions 1

Two receivers and three workers share one Redis with `appendfsync always`. One of the receivers
waits for the append-only file before each 200. Senders post signed deliveries and send a delivery
again until it is answered with 200. Half of the messages have an ordering key. A key belongs to one
sender, which sends the next message only when the last one was accepted. Meanwhile workers and
receivers are killed and frozen, Redis is killed, frozen and restarted (also while it rewrites its
file), and connections are cut. A fault happens when a given number of deliveries has been accepted,
so one seed always gives one schedule. Everything runs on loopback and is bounded in count and time.
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

import aiohttp
import redis

from hookmill.stream.keys import Keys
from tests.chaos_ledger import LEASE, Fault, PastFault, Run, Verdict, count_broken_order
from tests.e2e.line import Line, Post, unfinished
from tests.support import Program, Server, server_binaries, wait_until

DURABILITY = ("memory", "aof")
"""What each of the receivers waits for."""

RECEIVERS, WORKERS = len(DURABILITY), 3
SENDERS = 40
KEYS_EACH = 10
"""Ordering keys of one sender."""

TIME_LIMIT = 1500.0
"""Seconds after which a run is given up."""

SLACK = LEASE * 3
"""Seconds after a fault in which its effects may still show, for example a lost acknowledgement."""


def schedule(seed: int, faults: int, messages: int) -> list[Fault]:
    """Draw the faults. They are spread over the run. The seed decides their order and targets."""
    draw = random.Random(seed)
    kinds = ["kill worker"] * 4 + ["freeze worker"] * 3 + ["kill receiver"] * 2
    kinds += ["freeze receiver", "kill redis", "freeze redis", "cut connections", "stop worker"]
    kinds += ["kill rewriting redis"]
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

    def __init__(
        self,
        folder: Path,
        *,
        messages: int,
        faults: int,
        seed: int,
        binary: str,
        partitions: int = 4,
    ) -> None:
        self.folder = folder
        self.partitions = [Keys("chaos", number) for number in range(partitions)]
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
        self.programs: list[Program] = []
        self.accepted: set[str] = set()
        self.sent_in_order: defaultdict[str, list[str]] = defaultdict(list)
        """The message IDs of each ordering key, in the order in which they were accepted."""

        self.past_faults: list[PastFault] = []
        self._may_send = 0
        self._more_may_be_sent = asyncio.Event()

    async def run(self) -> Verdict:
        """Send messages, cause faults, wait for the end, and read the ledger."""
        began = time.monotonic()
        self.server.start()
        ledger_source = Path(__file__).parent / "e2e" / "ledger.py"
        shutil.copy(ledger_source, self.folder / "ledger.py")
        try:
            for durability in DURABILITY:
                line = Line(self._start, self.folder, self.server.url, "chaos")
                line.env |= {
                    "HOOKMILL_PARTITIONS": str(len(self.partitions)),
                    "HOOKMILL_SOURCES__MARBLE__ORDERED_BY": "data.id",
                    "HOOKMILL_DURABILITY": durability,
                    "HOOKMILL_APPEND_TIMEOUT": "1.5",  # the default: senders give up after 4
                }
                self.lines.append(line)
                self.receivers.append(line.receiver(HOOKMILL_LOG_LEVEL="info"))
            self.workers = [self._worker() for _ in range(WORKERS)]
            async with asyncio.timeout(TIME_LIMIT):
                async with asyncio.TaskGroup() as group:  # if one fails, the other is cancelled
                    group.create_task(self._cause_faults())
                    group.create_task(self._send())
                await asyncio.to_thread(self._wait_for_end)
            return self._verdict(time.monotonic() - began)
        finally:
            for program in self.programs:
                program.kill()
            self.server.kill()

    def _start(self, *command: str, env: dict[str, str], name: str = "") -> Program:
        program = Program(self.folder, *command, env=env, name=name)
        self.programs.append(program)
        return program

    def _worker(self) -> Program:
        line = self.lines[0]
        return self._start("worker", "ledger:handlers", env=line.env | self.env)

    async def _send(self) -> None:
        """Post every delivery until it is accepted, and one in ten a second time."""
        numbers = iter(range(self.messages))
        connector = aiohttp.TCPConnector(limit=SENDERS)
        timeout = aiohttp.ClientTimeout(total=4)

        async def sender(session: aiohttp.ClientSession, name: int) -> None:
            for number in numbers:
                while number >= self._may_send:
                    self._more_may_be_sent.clear()
                    await self._more_may_be_sent.wait()
                line = self.lines[number // 2 % RECEIVERS]
                key = "" if number % 2 else f"post_{name}_{number // 2 % KEYS_EACH}"
                post = line.post_published(number, key) if key else line.order(number)
                await self._post(session, line, post)
                if key:
                    self.sent_in_order[key].append(post.message_id)
                if number % 20 in {0, 11}:
                    await self._post(session, line, post)

        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
            await asyncio.gather(*(sender(session, name) for name in range(SENDERS)))

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
                pass  # no receiver, or no answer: the sender still has the delivery
            await asyncio.sleep(0.2)

    async def _cause_faults(self) -> None:
        for fault in self.schedule:
            self._let_send(fault.after)
            while len(self.accepted) < fault.after:  # noqa: ASYNC110 - polling is enough here
                await asyncio.sleep(0.01)
            # During the fault, senders continue with a third of the messages until the next one.
            self._let_send(fault.after + self.messages // (3 * len(self.schedule)))
            began = time.time()
            pid = await asyncio.to_thread(self._cause, fault)
            self.past_faults.append(PastFault(fault, began, time.time(), pid))
            _say(f"{len(self.accepted):>7} accepted  {fault.kind} ({fault.seconds} s)")
        self._let_send(self.messages)

    def _let_send(self, count: int) -> None:
        """Allow the senders to send the first `count` messages."""
        self._may_send = count
        self._more_may_be_sent.set()

    def _cause(self, fault: Fault) -> int:
        """Carry out the fault. Return the ID of the process that it hit."""
        kind, _, victim = fault.kind.partition(" ")
        target = self._target(victim, fault.target)
        pid = target.pid
        if kind == "freeze":
            target.signal(signal.SIGSTOP)
            time.sleep(fault.seconds)
            target.signal(signal.SIGCONT)
        elif kind == "cut":
            with redis.Redis.from_url(self.server.url) as client:
                client.client_kill_filter(_type="normal", skipme=True)
        elif isinstance(target, Server):
            if victim == "rewriting redis":
                with redis.Redis.from_url(self.server.url) as client:
                    client.bgrewriteaof()
            target.kill()
            time.sleep(fault.seconds)
            target.start()
        else:
            target.stop() if kind == "stop" else target.kill()
            self._replace(target)
        return pid

    def _target(self, victim: str, number: int) -> Program | Server:
        if victim == "worker":
            return self.workers[number % WORKERS]
        return self.receivers[number % RECEIVERS] if victim == "receiver" else self.server

    def _replace(self, gone: Program) -> None:
        if gone in self.workers:
            self.workers[self.workers.index(gone)] = self._worker()
        else:
            at = self.receivers.index(gone)
            self.receivers[at] = self.lines[at].receiver(HOOKMILL_LOG_LEVEL="info")

    def _wait_for_end(self) -> None:
        with redis.Redis.from_url(self.server.url) as client:
            wait_until(
                lambda: not unfinished(client, "chaos", len(self.partitions)),
                timeout=180,
                what="everything handled and trimmed",
            )

    def _verdict(self, seconds: float) -> Verdict:
        runs = self._runs()
        with redis.Redis.from_url(self.server.url) as client:
            dead = {
                fields[b"id"].decode()
                for keys in self.partitions
                for _, fields in client.xrange(keys.of_group("main").dead)
            }
        handled = {one for one, each in runs.items() if any(run.ended for run in each)}
        run_again = {one: each for one, each in runs.items() if len(each) > 1}
        overlapping, disordered = count_broken_order(
            self.sent_in_order.values(), runs, self.past_faults
        )
        return Verdict(
            accepted=len(self.accepted),
            handled=len(handled),
            dead=len(dead),
            lost=len(self.accepted - handled - dead),
            run_again=len(run_again),
            unexplained=sum(not self._is_explained(each) for each in run_again.values()),
            overlapping=overlapping,
            disordered=disordered,
            faults=len(self.past_faults),
            seconds=seconds,
        )

    def _runs(self) -> dict[str, list[Run]]:
        """Read the ledger: for each message ID, the runs of its handler."""
        runs: defaultdict[str, list[Run]] = defaultdict(list)
        for row in (self.folder / "ledger.txt").read_text().splitlines():
            what, message_id, _, pid, moment = row.split()
            if what == "begin":
                runs[message_id].append(Run(int(pid), float(moment), None))
            else:
                at = max(n for n, run in enumerate(runs[message_id]) if run.pid == int(pid))
                runs[message_id][at] = runs[message_id][at]._replace(ended=float(moment))
        return runs

    def _is_explained(self, runs: list[Run]) -> bool:
        """Return whether a fault happened near every run but the last, so that the run may have
        been cut off or not acknowledged.
        """
        return all(
            any(
                run.began <= fault.ended + SLACK and (run.ended or run.began) >= fault.began - SLACK
                for fault in self.past_faults
            )
            for run in runs[:-1]
        )


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> int:
    """Run it from the command line. Exit 1 if a message was lost, or if one ran twice or out of
    order without a fault as the reason.
    """
    parser = argparse.ArgumentParser(description="The chaos run.")
    parser.add_argument("--messages", type=int, default=100_000)
    parser.add_argument("--faults", type=int, default=50)
    parser.add_argument("--seed", type=int, default=20261121)
    parser.add_argument("--partitions", type=int, default=4)
    parser.add_argument("--server", choices=list(server_binaries()), default="valkey")
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="chaos-"))
    chaos = Chaos(
        folder,
        messages=given.messages,
        faults=given.faults,
        seed=given.seed,
        binary=server_binaries()[given.server],
        partitions=given.partitions,
    )
    verdict = asyncio.run(chaos.run())
    for name, value in verdict._asdict().items():
        print(f"{name:>12}  {value:.0f}" if name == "seconds" else f"{name:>12}  {value}")
    if verdict.lost or verdict.unexplained or verdict.disordered:
        _say(f"the logs and the ledger are in {folder}")
        return 1
    shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
