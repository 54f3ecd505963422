"""Whether the cost of a message depends on the amount of data: `python -m benchmarks.growth`.

It measures the CPU time of worker and Redis for each message, with one worker and no-op handlers:
with these messages alone, with a backlog, with messages that another worker holds, with many
remembered IDs, and with 16 partitions. CPU time depends less on other programs than elapsed time.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import redis

from benchmarks.dedup_memory import WINDOW, remember
from benchmarks.filling import PREFIX, Worked, fill, work
from benchmarks.harness import OTHERS, SUBJECT, Bench, options, pins, progress
from hookmill.stream.client import Client
from hookmill.stream.consumer import Consumer
from hookmill.stream.groups import Groups
from tests.support import Server

BASE = "these messages alone"
BACKLOG, PENDING, REMEMBERED = 1_000_000, 100_000, 1_000_000
MESSAGES = 50_000
CONCURRENCY = "256"


class Scenes:
    """The situations in which the same messages are handled.

    The backlog and the remembered IDs take long to make, so each has a server for all rounds.
    """

    def __init__(self, bench: Bench, backlog: int, messages: int) -> None:
        self._bench = bench
        self._share = backlog / BACKLOG
        self._backlog = backlog
        self._messages = messages
        self._used = 0

    def alone(self, server: Server) -> Worked:
        """Handle the messages alone."""
        self._fill(server)
        return self._work(server)

    def partitioned(self, server: Server) -> Worked:
        """Handle them from 16 partitions."""
        self._fill(server, partitions=16)
        return self._work(server, partitions="16")

    def beside_pending(self, server: Server) -> Worked:
        """Handle them while another worker holds many."""
        count = max(1, int(PENDING * self._share))
        _flush(server)
        fill(server, count)
        asyncio.run(_hold(server, count))
        fill(server, self._messages, first=count)
        return self._work(server)

    def prepare_backlog(self, server: Server) -> None:
        """Make a backlog that is long enough in the last round as well."""
        progress(f"appending {self._backlog:,} messages")
        fill(server, self._backlog + self._bench.rounds * self._messages)

    def behind_backlog(self, server: Server) -> Worked:
        """Handle the first messages of the backlog, in a new group for each round."""
        self._used += 1
        name = f"round-{self._used}"
        asyncio.run(_add_group(server, name))
        return self._work(server, group=name)

    def prepare_remembered(self, server: Server) -> None:
        """Record many IDs in the group."""
        count = max(1000, int(REMEMBERED * self._share))
        progress(f"remembering {count:,} IDs")
        asyncio.run(_remember(server, count))

    def with_remembered(self, server: Server) -> Worked:
        """Handle messages with new IDs."""
        self._used += 1
        fill(server, self._messages, first=self._used * self._messages)
        return self._work(server)

    def _fill(self, server: Server, partitions: int = 1) -> None:
        _flush(server)
        fill(server, self._messages, partitions=partitions)

    def _work(self, server: Server, **settings: str) -> Worked:
        return work(
            self._bench, server, "noop", self._messages, concurrency=CONCURRENCY, **settings
        )


def _flush(server: Server) -> None:
    with redis.Redis.from_url(server.url) as client:
        client.flushall()


async def _add_group(server: Server, name: str) -> None:
    """Make a group that gets all that the stream still has: workers make only the default one."""
    async with Client(server.url, PREFIX, timeout=60.0) as client:
        await Groups(client).add(name, "beginning")


async def _hold(server: Server, count: int) -> None:
    """Take messages as a worker that holds them longer than the measurement lasts."""
    client = Client(server.url, PREFIX, timeout=60.0)
    group = Consumer(client, "main", "holder", dedup_window=WINDOW)
    await group.open()
    held = 0
    while held < count:
        held += len((await group.take(min(1000, count - held))).entries)
    await group.close()
    await client.close()


async def _remember(server: Server, count: int) -> None:
    client = Client(server.url, PREFIX, timeout=60.0)
    group = Consumer(client, "main", "c", dedup_window=WINDOW)
    with redis.Redis.from_url(server.url) as plain:
        if not await remember(group, plain, count, time.monotonic() + 120):
            raise RuntimeError(f"could not have {count:,} IDs remembered in two minutes")
    await client.close()


def run(bench: Bench, backlog: int, messages: int) -> None:
    """Run the benchmark."""
    unit, asked = "µs a message", "within 10 % of the first line"
    total = bench.table("CPU of worker and Redis", unit, against=BASE, digits=1, target=asked)
    worker = bench.table("CPU of the worker", unit, against=BASE, digits=1, column="worker")
    server = bench.table("CPU of Redis", unit, against=BASE, digits=1, column="Redis")
    scenes = Scenes(bench, backlog, messages)
    with bench.redis() as plain, bench.redis() as long, bench.redis() as full:
        scenes.prepare_backlog(long)
        scenes.prepare_remembered(full)
        turns: dict[str, tuple[Callable[[Server], Worked], Server]] = {
            BASE: (scenes.alone, plain),
            f"a backlog of {backlog:,}": (scenes.behind_backlog, long),
            f"{int(PENDING * backlog / BACKLOG):,} pending": (scenes.beside_pending, plain),
            f"{int(REMEMBERED * backlog / BACKLOG):,} IDs remembered": (
                scenes.with_remembered, full,
            ),
            "16 partitions": (scenes.partitioned, plain),
        }  # fmt: skip
        for _ in bench.each_round():
            for name, (turn, on) in turns.items():
                worked = turn(on)
                total.put(name, worked.worker_us + worked.redis_us)
                worker.put(name, worked.worker_us)
                server.put(name, worked.redis_us)


def main(arguments: list[str] | None = None) -> None:
    parser = options(__doc__, 3, "growth")
    parser.add_argument("--backlog", type=int, default=BACKLOG, help="the rest is in proportion")
    given = parser.parse_args(arguments)
    with Bench("growth", given, pins(the_worker=SUBJECT, Redis=OTHERS)) as bench:
        if bench.quick:
            run(bench, min(given.backlog, 5_000), 500)
        else:
            run(bench, given.backlog, MESSAGES)
        bench.finish()


if __name__ == "__main__":
    main()
