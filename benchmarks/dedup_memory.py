"""Memory of a remembered message ID in Redis: `python -m benchmarks.dedup_memory`, from the root.

Starts its own servers, records IDs with the worker's take script, and deletes the stream. Then it
deletes the records, and divides the memory that this frees by the number of IDs. A small number is
measured in several groups at once, because the server's own memory would hide it. It stops after
`--seconds` for each server. `hookmill check` uses the result as `memory_checks.BYTES_PER_ID`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import redis

from hookmill.stream.client import Client
from hookmill.stream.consumer import Consumer
from tests.support import Server, server_binaries

SIZES = (10_000, 1_000_000, 3_000_000)
BATCH = 1000
LEAST = 200_000
WINDOW = 72 * 3600

# Digests as uniform as real ones. Redis makes them, so that no transfer is measured.
FILL = """
for n = ARGV[1], ARGV[2] do
  local hex = redis.sha1hex(n)
  local digest = {}
  for i = 1, 16 do digest[i] = string.char(tonumber(string.sub(hex, 2 * i - 1, 2 * i), 16)) end
  redis.call('XADD', KEYS[1], '*', 'digest', table.concat(digest), 'id', n)
end
"""


class Row(NamedTuple):
    """One measurement."""

    server: str
    ids: int
    bytes_per_id: float
    buckets_not_compact: int


async def measure(server: Server, name: str, sizes: list[int], seconds: float) -> list[Row]:
    """Measure at each size, until the time is over."""
    deadline = time.monotonic() + seconds
    stream = Client(server.url, "bench", timeout=60.0)
    rows: list[Row] = []
    with redis.Redis.from_url(server.url) as client:
        for size in sizes:
            copies = max(1, LEAST // size)
            for number in range(copies):
                group = Consumer(stream, f"group-{number}", "c", dedup_window=WINDOW)
                if not await remember(group, client, size, deadline):
                    print(f"{name}: {seconds:g} s are over before {size:,} IDs", file=sys.stderr)
                    await stream.close()
                    return rows
            large = sum(1 for _ in not_compact(client))
            before = used(client)
            # Synchronously, because the freed memory is the result.
            client.execute_command("FLUSHALL SYNC")
            each = (before - used(client)) / (size * copies)
            rows.append(Row(name, size, round(each, 1), large))
    await stream.close()
    return rows


async def remember(group: Consumer, client: redis.Redis, size: int, deadline: float) -> bool:
    """Record `count` IDs, and leave nothing but their records. False: the time is over."""
    fill: Any = client.register_script(FILL)
    await group.open()
    for first in range(0, size, BATCH):
        if time.monotonic() > deadline:
            break
        last = min(first + BATCH, size) - 1
        await asyncio.to_thread(fill, keys=[group.partitions[0].stream], args=[first, last])
        taken = await group.take(BATCH)
        assert len(taken.entries) == last - first + 1
        # Deleting the consumer and the stream leaves only the records.
        client.xgroup_delconsumer(group.partitions[0].stream, group.name, "c")
        client.xtrim(group.partitions[0].stream, maxlen=0, approximate=False)
    else:
        client.delete(group.partitions[0].stream, group.partitions[0].again)
        await group.close()
        return True
    await group.close()
    return False


def used(client: redis.Redis) -> int:
    info: Any = client.info("memory")
    return int(info["used_memory"])


def not_compact(client: redis.Redis) -> Iterator[bytes]:
    """Return buckets of a sample that Redis no longer stores in its compact encoding."""
    for number, key in enumerate(client.scan_iter("*:owners:*", count=1000)):
        if number == 20_000:
            return
        if client.object("encoding", key) not in {b"listpack", b"ziplist"}:
            yield key


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES), metavar="IDS")
    parser.add_argument("--seconds", type=float, default=600.0, help="for each server, at most")
    parser.add_argument("--server", choices=[*server_binaries()], help="else all that are there")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    given = parser.parse_args()
    if not given.json:
        print(f"{'server':<10}{'IDs':>12}{'B/ID':>8}{'not compact':>13}")
    for name, binary in server_binaries().items():
        if given.server not in {None, name}:
            continue
        with tempfile.TemporaryDirectory() as folder:
            server = Server(binary, Path(folder))
            server.start()
            try:
                rows = asyncio.run(measure(server, name, sorted(given.sizes), given.seconds))
            finally:
                server.kill()
        for row in rows:
            server_name, ids, each, large = row
            print(
                json.dumps(row._asdict())
                if given.json
                else f"{server_name:<10}{ids:>12,}{each:>8}{large:>13}"
            )


if __name__ == "__main__":
    main()
