"""The order run: 1,000 keys, 100 messages each, four workers, two of them killed.

    make order
    python -m tests.order --keys 200 --each 50 --partitions 4 --server redis

The workers start first. Then messages come faster than they can be handled. A ledger outside Redis
decides the result: the messages of each key began in the order of their arrival, no two of a key
ran at the same time, and none is missing. Before and after that, a single worker handles a tenth of
the messages, for comparison. Each handler waits a few ms, so running many keys at once is faster.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import shutil
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import redis

from hookmill.message import Message
from hookmill.stream.producer import Producer
from tests.e2e.line import Line, unfinished
from tests.support import Program, Server, Stream, server_binaries, wait_until

LEASE = 1.0
PAUSE = 0.02
"""Seconds that a handler waits. Running many keys at once saves this time."""

CONCURRENCY = 8
BATCH = 500


class Row(NamedTuple):
    """A line of the ledger: the handler of the message KEY-NUMBER began or ended."""

    has_ended: bool
    key: str
    number: int
    pid: int
    moment: float


class Verdict(NamedTuple):
    """What the ledger says: how many messages there are of each kind.

    `out_of_order`: it began while another message of its key was running, or after a later one.
    `run_again`: it began more than once. `unexplained`: it did so although its worker was not
    killed.
    """

    messages: int
    missing: int
    out_of_order: int
    run_again: int
    unexplained: int

    @property
    def holds(self) -> bool:
        """Whether the run found no fault."""
        return not (self.missing or self.out_of_order or self.unexplained)


class KeyHistory:
    """What happened to the messages of one key, read from the ledger line by line."""

    def __init__(self) -> None:
        self.ended: set[int] = set()
        self.out_of_order: set[int] = set()
        self.run_again: set[int] = set()
        self.unexplained: set[int] = set()
        self._last = -1
        self._running: dict[int, int] = {}
        self._last_pid: dict[int, int] = {}

    def read(self, row: Row, killed: Sequence[int]) -> None:
        """Add one line."""
        number, pid = row.number, row.pid
        if row.has_ended:
            self.ended.add(number)
            if self._running.get(number) == pid:
                del self._running[number]
            return
        if number in self._last_pid:
            self.run_again.add(number)
            if self._last_pid[number] not in killed:
                self.unexplained.add(number)
        if not self._may_begin(number):
            self.out_of_order.add(number)
        # A second run replaces the first one, because that worker was killed.
        self._running[number] = self._last_pid[number] = pid
        self._last = number

    def _may_begin(self, number: int) -> bool:
        """Return whether this message may begin: it began last and begins again, or it is the next
        one and the last one has ended.
        """
        if number == self._last:
            return True
        is_over = self._last in self.ended or self._last == -1
        return number == self._last + 1 and is_over and not self._running


def judge(rows: Iterable[Row], keys: Sequence[str], each: int, killed: Sequence[int]) -> Verdict:
    """Judge a whole ledger. For each key, the messages 0 to `each` - 1 were sent in that order.
    `killed` has the process IDs of the killed workers.
    """
    by_key: defaultdict[str, KeyHistory] = defaultdict(KeyHistory)
    for row in rows:
        by_key[row.key].read(row, killed)
    histories = [by_key[key] for key in keys]
    return Verdict(
        messages=len(keys) * each,
        missing=sum(each - len(history.ended & set(range(each))) for history in histories),
        out_of_order=sum(len(history.out_of_order) for history in histories),
        run_again=sum(len(history.run_again) for history in histories),
        unexplained=sum(len(history.unexplained) for history in histories),
    )


class Crew:
    """Some workers with a stream of their own, and the messages that they handle."""

    def __init__(self, folder: Path, url: str, prefix: str, *, partitions: int = 1) -> None:
        self.prefix = prefix
        self.partitions = partitions
        self.url = url
        self._folder = folder
        self._programs: list[Program] = []
        self._line = Line(self._start, folder, url, prefix)
        self._env = {
            "HOOKMILL_PARTITIONS": str(partitions),
            "HOOKMILL_LEASE": str(LEASE),
            "HOOKMILL_CONCURRENCY": str(CONCURRENCY),
            "LEDGER_PAUSE": str(PAUSE),
        }
        self.killed: list[int] = []

    async def run(
        self, keys: Sequence[str], each: int, *, workers: int, kills: int, seed: int
    ) -> tuple[Verdict, float]:
        """Have all messages handled. Return the verdict, and how many messages were handled per
        second, from the first begin to the last end.
        """
        draw = random.Random(seed)
        stream = Stream(self.url, self.prefix, partitions=self.partitions)
        try:
            crew = await asyncio.to_thread(self._start_workers, workers)
            killing = asyncio.create_task(
                asyncio.to_thread(self._kill, crew[:kills], len(keys) * each)
            )
            await self._send(stream, draw, keys, range(each))
            await killing
            await asyncio.to_thread(self._wait_for_end, len(keys) * each)
            await asyncio.to_thread(lambda: [program.stop() for program in crew[kills:]])
        finally:
            for program in self._programs:
                program.kill()
            await stream.close()
        rows = self._rows()
        seconds = max(row.moment for row in rows) - min(row.moment for row in rows)
        return judge(rows, keys, each, self.killed), len(keys) * each / seconds

    def _start_workers(self, count: int) -> list[Program]:
        env = self._line.env | self._env
        crew = [self._start("worker", "ledger:handlers", env=env) for _ in range(count)]
        for program in crew:
            program.wait_for('"working"')
        return crew

    def _start(self, *command: str, env: dict[str, str], name: str = "") -> Program:
        program = Program(self._folder, *command, env=env, name=name)
        self._programs.append(program)
        return program

    async def _send(
        self, stream: Producer, draw: random.Random, keys: Sequence[str], numbers: range
    ) -> None:
        """Append the messages with these numbers for each key. The order of the keys is drawn
        again for each number.
        """
        for number in numbers:
            mixed = draw.sample(keys, len(keys))
            for start in range(0, len(mixed), BATCH):
                await stream.append([_message(key, number) for key in mixed[start : start + BATCH]])

    def _kill(self, victims: list[Program], messages: int) -> None:
        """Kill the workers one after another while many messages are left to handle."""
        for place, victim in enumerate(victims, 1):
            self._wait_for_ended(messages * place // (len(victims) + 2))
            victim.kill()
            self.killed.append(victim.pid)

    def _wait_for_ended(self, count: int) -> None:
        wait_until(lambda: self._ended() >= count, timeout=600, what=f"{count} ended messages")

    def _ended(self) -> int:
        return self._line.ledger.read_bytes().count(b"end ")

    def _wait_for_end(self, messages: int) -> None:
        with redis.Redis.from_url(self.url) as client:
            wait_until(
                lambda: (
                    self._ended() >= messages
                    and not unfinished(client, self.prefix, self.partitions, trimmed=False)
                ),
                timeout=900,
                what=f"the end: {self._ended()} of {messages} have ended",
            )

    def _rows(self) -> list[Row]:
        rows = []
        for line in self._line.ledger.read_text().splitlines():
            what, message_id, _, pid, moment = line.split()
            key, _, number = message_id.rpartition("-")
            rows.append(Row(what == "end", key, int(number), int(pid), float(moment)))
        return rows


def keys_named(count: int) -> list[str]:
    """Return that many names of keys."""
    return [f"key-{number}" for number in range(count)]


def _message(key: str, number: int) -> Message:
    body = b'{"type":"order.paid","order_id":"%s","amount":%d}' % (key.encode(), number)
    return Message(
        id=f"{key}-{number}", source="qstash", type="order.paid", body=body, received_ms=0, key=key
    )


async def _compare(given: argparse.Namespace, folder: Path, url: str) -> int:
    """Run one worker, then all, then one again. Print the results; return the exit code."""
    keys, speeds = keys_named(given.keys), []
    verdicts = []
    for name, workers, kills, each in (
        ("alone-before", 1, 0, max(2, given.each // 10)),
        ("together", given.workers, given.kills, given.each),
        ("alone-after", 1, 0, max(2, given.each // 10)),
    ):
        (folder / name).mkdir()
        crew = Crew(folder / name, url, name, partitions=given.partitions)
        verdict, speed = await crew.run(keys, each, workers=workers, kills=kills, seed=given.seed)
        print(f"{name}: {workers} workers, {kills} killed, {speed:,.0f} messages/s", flush=True)
        for kind, count in verdict._asdict().items():
            print(f"{kind:>12}  {count}", flush=True)
        verdicts.append(verdict)
        speeds.append(speed)
    ratio = speeds[1] / max(speeds[0], speeds[2])
    print(f"together / the faster one alone: {ratio:.2f}")
    return 0 if ratio > 1 and all(verdict.holds for verdict in verdicts) else 1


def main() -> int:
    """Run it from the command line. Exit 1 if the order was broken, if a message is missing or ran
    twice although its worker was not killed, or if one worker alone was as fast as all.
    """
    parser = argparse.ArgumentParser(description="The order run.")
    parser.add_argument("--keys", type=int, default=1_000)
    parser.add_argument("--each", type=int, default=100)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--kills", type=int, default=2)
    parser.add_argument("--partitions", type=int, default=1)
    parser.add_argument("--seed", type=int, default=20261121)
    parser.add_argument("--server", choices=list(server_binaries()), default="valkey")
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="order-"))
    server = Server(server_binaries()[given.server], folder)
    server.start()
    try:
        status = asyncio.run(_compare(given, folder, server.url))
    finally:
        server.kill()
    if status:
        print(f"the logs and the ledgers are in {folder}", file=sys.stderr)
    else:
        shutil.rmtree(folder)
    return status


if __name__ == "__main__":
    sys.exit(main())
