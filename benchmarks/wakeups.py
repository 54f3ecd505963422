"""What an append costs Redis while many workers of many partitions are idle.

`python -m benchmarks.wakeups`. The workers are raw connections, each of which waits as an idle
worker does. Release 0.1 blocked on two streams a partition; today a worker blocks on two sorted
sets. The append is today's. The worker that it wakes waits again, and this counts as well.
"""

from __future__ import annotations

import asyncio
import selectors
import socket
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import hiredis
import redis

from benchmarks.filling import PREFIX, message
from benchmarks.harness import OTHERS, Bench, options, pinned_to, pins, progress
from benchmarks.tables import Table
from hookmill.stream.client import Client
from hookmill.stream.connections import Command
from hookmill.stream.consumer import Consumer
from hookmill.stream.keys import Keys
from hookmill.stream.producer import Producer
from tests.support import Server, server_binaries, wait_until

SIZES = ((100, 16), (1000, 64))
"""Workers and partitions."""

BLOCK = 600
"""Seconds for which a worker waits at most."""


def waits(keys: list[Keys]) -> dict[str, bytes]:
    """Return the command with which an idle worker waits, of release 0.1 and of today."""
    groups = [each.of_group("main") for each in keys]
    streams = [name for each in groups for name in (each.stream, each.again)]
    old = ("XREADGROUP", "GROUP", "main:bell", "bell", "COUNT", 1, "BLOCK", BLOCK * 1000, "NOACK")
    commands: dict[str, Command] = {
        "0.1": (*old, "STREAMS", *streams, *(">" for _ in streams)),
        "today": ("BZPOPMIN", groups[0].wake, keys[0].wake, BLOCK),
    }
    return {release: hiredis.pack_command(command) for release, command in commands.items()}


class Fleet:
    """Connections that wait, and wait again when they were woken."""

    def __init__(self, server: Server, stack: ExitStack, count: int, command: bytes) -> None:
        self._command = command
        self._selector = stack.enter_context(selectors.DefaultSelector())
        for _ in range(count):
            raw = stack.enter_context(socket.create_connection(("127.0.0.1", server.port)))
            raw.sendall(command)
            self._selector.register(raw, selectors.EVENT_READ)

    def wait_again(self) -> None:
        """Wait until one was woken; let it wait again."""
        for key, _ in self._selector.select(10.0):
            raw: Any = key.fileobj
            raw.recv(65536)
            raw.sendall(self._command)


async def appended(server: Server, fleet: Fleet, partitions: int, appends: int) -> None:
    """Append messages one by one. Their bodies decide to which partitions."""
    async with Client(server.url, PREFIX, partitions=partitions, timeout=60.0) as client:
        producer = Producer(client)
        for number in range(appends):
            await producer.append([message(number)])
            fleet.wait_again()


async def make_groups(server: Server, partitions: int) -> None:
    """Make what workers of both releases wait for."""
    async with Client(server.url, PREFIX, partitions=partitions) as client:
        group = Consumer(client, "main", "c1", dedup_window=60)
        await group.open()
        await group.close()
        for number, keys in enumerate(group.partitions):
            for key in (keys.stream, keys.again):
                await client.execute(number, "XGROUP", "CREATE", key, "main:bell", "$")


def cpu(client: redis.Redis) -> float:
    """Return the CPU time of the server so far, in seconds."""
    info: Any = client.info("cpu")
    return float(info["used_cpu_user"] + info["used_cpu_sys"])


def measured(server: Server, workers: int, partitions: int, release: str, appends: int) -> float:
    """Return the milliseconds of the server's CPU that an append needs."""
    keys = [Keys(PREFIX, number) for number in range(partitions)]
    with redis.Redis.from_url(server.url) as client, ExitStack() as stack:
        client.flushall()
        client.config_set("maxclients", 5000)
        asyncio.run(make_groups(server, partitions))
        fleet = Fleet(server, stack, workers, waits(keys)[release])
        wait_until(lambda: blocked(client) == workers, timeout=60.0, what="all workers to wait")
        before = cpu(client)
        asyncio.run(appended(server, fleet, partitions, appends))
        return (cpu(client) - before) / appends * 1000


def blocked(client: redis.Redis) -> int:
    """Count the workers that wait."""
    info: Any = client.info("clients")
    return int(info["blocked_clients"])


@contextmanager
def running(bench: Bench, binary: str) -> Iterator[Server]:
    """Run this server inside the block, on the second core."""
    server = Server(server_binaries()[binary], Path(tempfile.mkdtemp(dir=bench.folder)))
    with pinned_to(OTHERS):
        server.start()
    with redis.Redis.from_url(server.url) as client:
        info: Any = client.info("server")
    version = info.get("valkey_version") or info["redis_version"]
    bench.report.versions[binary + "-server"] = f"{version}, no persistence"
    try:
        yield server
    finally:
        server.kill()


def run(bench: Bench) -> None:
    """Run the benchmark."""
    appends = 5 if bench.quick else 100
    tables: dict[str, Table] = {
        binary: bench.table(f"An append while all workers are idle, {binary}", "ms", digits=2)
        for binary in server_binaries()
    }
    for _ in bench.each_round():
        for binary, table in tables.items():
            with running(bench, binary) as server:
                for workers, partitions in ((10, 4),) if bench.quick else SIZES:
                    progress(f"{binary}: {workers} workers, {partitions} partitions")
                    for release in ("0.1", "today"):
                        took = measured(server, workers, partitions, release, appends)
                        table.put(f"{workers} x {partitions}, as {release}", took)


def main(arguments: list[str] | None = None) -> None:
    given = options(__doc__, 3, "wakeups").parse_args(arguments)
    with Bench("wakeups", given, pins(Redis=OTHERS)) as bench:
        run(bench)
        bench.finish()


if __name__ == "__main__":
    main()
