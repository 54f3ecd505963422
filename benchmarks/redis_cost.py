"""What a message costs Redis: `python -m benchmarks.redis_cost`.

Measures the server's own CPU time (`INFO cpu`) for appending messages, taking them and settling
them, in batches of 32 and of 200; and beside it, in the same run, for the bare commands with the
same entries: XADD, and XREADGROUP with XACK. The programs' own commands are recorded on their way
to a second server, and sent to the measured one byte for byte, several at once. So no client slows
the server down.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import hiredis
import redis
from msgspec import structs

from benchmarks import filling, replay
from benchmarks.harness import OTHERS, SUBJECT, Bench, chunks, options, pinned_to, pins
from benchmarks.tables import Table
from hookmill.instrumentation.facts import AttemptEnded
from hookmill.message import PACKED_VERSION, Progress
from hookmill.signatures.scheme import Token
from hookmill.stream.arrival import Arrival, Row, row_of
from hookmill.stream.attempts import NO_HISTORY, HistoryBounds
from hookmill.stream.client import Client
from hookmill.stream.consumer import Consumer
from hookmill.stream.entries import STREAM, Entry, EntryRef, Settlement
from hookmill.stream.keys import Keys
from hookmill.stream.producer import Producer
from tests.support import Server
from worker.outcome import Done

MESSAGES = 40_000
BATCHES = (32, 200)
FIRST, OTHERS_FROM = 100_000, 900_000
"""The numbers of the first message that is measured, and of the first of the others. All numbers
have as many digits, so that all entries have one size.
"""
READ_BEFORE = 100
"""Messages that are there before the measured ones, so that all scripts are used."""
READ_AT_ONCE = 256
"""How many entries the bare loop reads."""
BARE = "XREADGROUP and XACK, bare"
FULL_HISTORY = HistoryBounds(10_000, 64 * 1024 * 1024)
"""Bounds that are reached soon, so that each settlement makes room for what it adds."""
ENTRIES = Keys(filling.PREFIX, 0).stream


class Tables(NamedTuple):
    """The tables of this benchmark."""

    appends: Table
    takes: Table
    together: Table


class Servers(NamedTuple):
    """The server that is measured, and the one to which commands go while they are recorded."""

    measured: Server
    recording: Server


def rows_of(count: int, *, with_tokens: bool = False, first: int = FIRST) -> list[Row]:
    """Return messages as receivers append them, each with a token of its own where asked for."""
    expires = int(time.time()) + 300
    rows = []
    for number in range(first, first + count):
        token = Token(os.urandom(32), expires) if with_tokens else None
        plain = structs.asdict(filling.message(number))
        rows.append(row_of(Arrival(**plain, id_is_signed=True, token=token), PACKED_VERSION))
    return rows


def group_of(client: Client, history: HistoryBounds = NO_HISTORY) -> Consumer:
    """Return the group's view of a worker."""
    return Consumer(client, "main", "one", dedup_window=86_400, history=history)


async def append(client: Client, cut: Callable[[], None], rows: Sequence[Row], batch: int) -> None:
    """Append the rows as a receiver does, a piece for each batch."""
    stream = Producer(client)
    for numbers in chunks(len(rows), batch):
        await stream.append_rows(rows[numbers.start : numbers.stop])
        cut()


async def take(client: Client, cut: Callable[[], None], batch: int) -> None:
    """Take as a worker does under load. The first piece is all up to the second take, the second
    one is a direct read, as all that follow.
    """
    group = group_of(client)
    await Producer(client).append_rows(rows_of(4 * batch, first=OTHERS_FROM))
    await group.open()
    for _ in range(2):
        await group.take(batch)
    cut()
    await group.take(batch)
    cut()
    await group.close()


async def settle(
    client: Client,
    cut: Callable[[], None],
    ids: Sequence[str],
    batch: int,
    history: HistoryBounds = NO_HISTORY,
) -> None:
    """Settle entries as a worker does whose handlers have succeeded, a piece for each batch."""
    group = group_of(client, history)
    await group.open()
    for numbers in chunks(len(ids), batch):
        await group.settle([done(one) for one in ids[numbers.start : numbers.stop]])
        cut()
    await group.close()


def done(entry_id: str) -> Settlement:
    """Return the settlement of an entry whose handler has succeeded."""
    ref = EntryRef(STREAM, entry_id, 0)
    before, now = Progress(owner=entry_id), time.perf_counter()
    ended = AttemptEnded(Entry(ref, {}), None, before, Done("book"), now, 0.001)
    return Settlement(ref, ended=ended)


async def load_scripts(server: Server) -> None:
    """Have the server know the scripts, and the group."""
    client = Client(server.url, filling.PREFIX, timeout=60.0)
    group = group_of(client)
    await group.open()
    await Producer(client).append_rows(rows_of(READ_BEFORE, first=OTHERS_FROM))
    for _ in range(2):
        taken = await group.take(READ_BEFORE // 2)
        await group.settle([Settlement(one.ref) for one in taken.entries])
    await group.close()
    await client.close()


class Turn:
    """Measures one batch size."""

    def __init__(self, servers: Servers, batch: int, count: int) -> None:
        self._servers = servers
        self._batch = batch
        self._count = count
        self._client = redis.Redis.from_url(servers.measured.url)

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    async def begin(self) -> None:
        """Empty both servers; have them know the scripts and the group."""
        for server in self._servers:
            with redis.Redis.from_url(server.url) as client:
                client.flushall()
            await load_scripts(server)

    def spent(self, commands: Sequence[bytes]) -> float:
        """Send commands; return the microseconds of CPU time a message."""
        before = self._cpu_seconds()
        replay.send(self._servers.measured, commands)
        return (self._cpu_seconds() - before) / self._count * 1e6

    async def append(self, *, with_tokens: bool) -> float:
        """Measure appends."""
        rows = rows_of(self._count, with_tokens=with_tokens)
        found = self.spent(await self._recorded(append, rows=rows))
        assert self._client.xlen(ENTRIES) == self._count + READ_BEFORE
        return found

    def append_bare(self) -> float:
        """Measure an XADD for each entry, as many at once as in a batch."""
        rows = rows_of(self._count)
        added = [_packed("XADD", "bare", "*", *_flat(row)) for row in rows]
        found = self.spent(
            [
                b"".join(added[numbers.start : numbers.stop])
                for numbers in chunks(self._count, self._batch)
            ]
        )
        self._client.delete("bare")
        return found

    def read_bare(self) -> float:
        """Measure reading and acknowledging the entries, in a group of its own."""
        self._client.xgroup_create(ENTRIES, "bare", self._ids(READ_BEFORE - 1)[0])
        read = ("XREADGROUP", "GROUP", "bare", "one", "COUNT", str(READ_AT_ONCE), "STREAMS")
        ids = self._ids(READ_BEFORE)
        found = self.spent(
            [
                _packed(*read, ENTRIES, ">")
                + _packed("XACK", ENTRIES, "bare", *ids[numbers.start : numbers.stop])
                for numbers in chunks(self._count, READ_AT_ONCE)
            ]
        )
        assert self._pending("bare") == 0
        self._client.xgroup_destroy(ENTRIES, "bare")
        return found

    async def take(self) -> float:
        """Measure takes."""
        _, command = await self._recorded(take)
        found = self.spent([command] * -(-self._count // self._batch))
        assert self._pending("main") == self._count
        return found

    async def settle(self, history: HistoryBounds = NO_HISTORY) -> float:
        """Measure settlements of all that was taken."""
        ids = self._ids(READ_BEFORE)
        found = self.spent(await self._recorded(settle, ids=ids, history=history))
        assert self._pending("main") == 0
        return found

    async def _recorded(self, do: Callable[..., Any], **given: Any) -> list[bytes]:
        """Return what the measured server has to get."""
        doing = partial(do, batch=self._batch, **given)
        return await replay.recorded_pieces(self._servers.recording, filling.PREFIX, doing)

    def _cpu_seconds(self) -> float:
        used: Any = self._client.info("cpu")
        return float(used["used_cpu_user"] + used["used_cpu_sys"])

    def _ids(self, first: int) -> list[str]:
        entries: Any = self._client.xrange(ENTRIES)
        return [entry_id.decode() for entry_id, _ in entries[first:]]

    def _pending(self, group: str) -> int:
        summary: Any = self._client.xpending(ENTRIES, group)
        return int(summary["pending"])


def _packed(*words: str | bytes) -> bytes:
    packed: bytes = hiredis.pack_command(words)  # type: ignore[arg-type]  # its stub takes one word
    return packed


def _flat(row: Row) -> list[bytes]:
    return [word for pair in row.fields.items() for word in pair]


async def measure(bench: Bench, servers: Servers, tables: Tables, batch: int) -> None:
    """Run one turn."""
    turn, at_once = Turn(servers, batch, 1_000 if bench.quick else MESSAGES), f"{batch} at once"
    await turn.begin()
    tables.appends.put(f"XADD, bare, {at_once}", turn.append_bare())
    plain = await turn.append(with_tokens=False)
    await turn.begin()
    with_token = await turn.append(with_tokens=True)
    bare = turn.read_bare()
    taken, settled = await turn.take(), await turn.settle()
    await turn.begin()
    await turn.append(with_tokens=False)
    await turn.take()
    with_history = await turn.settle(FULL_HISTORY)
    turn.close()
    tables.appends.put(f"append, {at_once}", plain)
    tables.appends.put(f"append, each with a token, {at_once}", with_token)
    tables.takes.put(BARE, bare, f"{READ_AT_ONCE} at once")
    tables.takes.put(f"take, {at_once}", taken)
    tables.takes.put(f"settle, {at_once}", settled)
    tables.takes.put(f"settle, with a history, {at_once}", with_history)
    tables.takes.put(f"take and settle, {at_once}", taken + settled)
    tables.together.put(f"all, {at_once}", plain + taken + settled)
    tables.together.put(f"all, with a history, {at_once}", plain + taken + with_history)
    tables.together.put(f"all, each with a token, {at_once}", with_token + taken + settled)


def main(arguments: list[str] | None = None) -> None:
    given = options(__doc__, 5, "redis_cost").parse_args(arguments)
    unit = "\u00b5s of CPU time a message"
    with Bench("redis_cost", given, pins(Redis=OTHERS, the_client=SUBJECT)) as bench:
        tables = Tables(
            bench.table("Append", unit, digits=1),
            bench.table("Take and settle", unit, digits=1, against=BARE,
                        target="together at most 3.5 times the bare commands"),
            bench.table("A message, from its append to its end", unit, digits=1,
                        target="at most 9 \u00b5s"),
        )  # fmt: skip
        with bench.redis() as measured, bench.redis() as recording, pinned_to(SUBJECT):
            servers = Servers(measured, recording)
            for _ in bench.each_round():
                for batch in BATCHES:
                    asyncio.run(measure(bench, servers, tables, batch))
        bench.finish()


if __name__ == "__main__":
    main()
