"""The CPU time of each step of a message: `python -m benchmarks.steps`.

Each step is called alone, in one process, with real parts and as the programs call it. A round's
value is the best of several tries. In the programs the same steps take up to twice as long, because
other messages and the kernel use the CPU's caches in between. The cost of a round trip to Redis is
divided by the messages that share it under load.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any
from unittest import mock

from aiohttp.base_protocol import BaseProtocol
from aiohttp.http import HttpRequestParser
from structlog.typing import FilteringBoundLogger

from benchmarks import deliveries, filling
from benchmarks.handlers import noop
from benchmarks.harness import SUBJECT, Bench, chunks, options, pinned_to, pins
from benchmarks.tables import Table
from hookmill.config.settings import load_settings
from hookmill.config.sources import Source, sources_of
from hookmill.message import PACKED_VERSION, Message, Progress
from hookmill.runtime import logs, process
from hookmill.stream.arrival import Arrival, row_of
from hookmill.stream.client import Client
from hookmill.stream.consumer import Consumer
from hookmill.stream.entries import Entry, Settlement, Taken
from hookmill.stream.producer import Producer
from receiver.intake import ReceivedRequest, admit, delivery_of
from receiver.rendering import render
from receiver.responses import Reply
from tests.support import Server
from worker.attempt import Attempter
from worker.outcome import Done
from worker.report import report
from worker.settlement import settlement_of
from worker.threads import HandlerThreads

ROUNDS = 5
TURNS = 5
CALLS = 2_000
APPENDED = 32
TAKEN = 128
"""Messages that share a round trip under the load of the other benchmarks."""


class Steps:
    """Adds the time of each step to a table."""

    def __init__(self, table: Table, calls: int) -> None:
        self._table = table
        self._calls = calls

    def time(self, name: str, step: Callable[[], object], note: str = "") -> None:
        """Time a call."""
        self._table.put(name, min(self._once(step) for _ in range(TURNS)), note)

    async def time_awaited(
        self, name: str, step: Callable[[int], Awaitable[object]], messages: int, turns: int
    ) -> None:
        """Time a call that `messages` share."""
        best = float("inf")
        for number in range(turns):
            began = time.process_time()
            await step(number)
            best = min(best, time.process_time() - began)
        self._table.put(name, best / messages * 1e6, f"a share of {messages}")

    def time_lines(self, name: str, write: Callable[[FilteringBoundLogger], object]) -> None:
        """Time a log line, where the lines of several messages are written together."""
        kept = logs.KeptLines("steps")

        def several() -> None:
            for _ in range(APPENDED):
                write(kept.log)
            kept.write()

        best = min(self._once(several) for _ in range(TURNS)) / APPENDED
        self._table.put(name, best, f"a share of {APPENDED}")

    def _once(self, step: Callable[[], object]) -> float:
        began = time.process_time()
        for _ in range(self._calls):
            step()
        return (time.process_time() - began) / self._calls * 1e6


async def receiver(steps: Steps, source: Source, raw: bytes, stream: Producer) -> None:
    """Run a delivery through the receiver's steps."""
    loop = asyncio.get_running_loop()
    parser = HttpRequestParser(BaseProtocol(loop), loop, 2**16)

    def parse() -> Any:
        messages, _, _ = parser.feed_data(raw)
        parser.message_consumed()
        return messages[0]

    head, payload = parse()
    request = ReceivedRequest(head.path, head.headers, head.raw_headers, payload.read_nowait())
    now = time.time()
    delivery = delivery_of(source, request)
    arrival = admit(source, request, now)
    assert isinstance(arrival, Arrival)
    steps.time("aiohttp parses the request", parse)
    steps.time(
        "the token is verified", lambda: source.scheme.verify(delivery, now), "in the admission"
    )
    steps.time(
        "the delivery is admitted", lambda: admit(source, request, now), "the verification included"
    )
    steps.time("a row is made of it", lambda: row_of(arrival, PACKED_VERSION))
    rows = [row_of(arrival, PACKED_VERSION)] * APPENDED

    async def append(_: int) -> None:
        await stream.append_rows(rows)

    await steps.time_awaited("Redis is asked to append it", append, APPENDED, 50)
    steps.time("the answer is written out", lambda: render(Reply(200)))
    says = {"id": arrival.id, "source": arrival.source, "type": arrival.type, "bytes": 214}
    steps.time_lines('a log line says "accepted"', lambda log: log.info("accepted", **says))


async def worker(bench: Bench, steps: Steps, server: Server) -> None:
    """Run messages through the worker's steps."""
    turns = 2 if bench.quick else 20
    await fill(server, turns * TAKEN)
    stream = Producer(Client(server.url, filling.PREFIX))
    group = Consumer(stream.client, "steps", "one", dedup_window=86_400)
    await group.open()
    taken: list[Taken] = []

    async def take(_: int) -> None:
        taken.append(await group.take(TAKEN))

    await steps.time_awaited("Redis is asked for it", take, TAKEN, turns)
    entries = [entry for one in taken for entry in one.entries]
    entry = entries[0]
    steps.time("its fields are read", lambda: Message.from_fields(entry.fields), "in the attempt")
    attempter = Attempter(noop, None, HandlerThreads(1), grace=60.0)
    await attempts(steps, attempter, entries[:TAKEN])
    steps.time("its settlement is made", lambda: settlement_of(entry, Done("noop"), time.time))
    progress = Progress.from_fields(entry.fields, entry.ref.id)
    logs.bind_message("msg_1", "qstash", "order.paid")
    steps.time_lines(
        'a log line says "handled"', lambda log: report(log, Done("noop"), progress, 0.001)
    )

    async def settle(number: int) -> None:
        await group.settle([Settlement(one.ref) for one in taken[number].entries])

    await steps.time_awaited("Redis is told", settle, TAKEN, turns)
    await group.close()
    await stream.client.close()


async def attempts(steps: Steps, attempter: Attempter, entries: list[Entry]) -> None:
    """Time whole attempts: each is a task that decodes the event and calls the handler."""
    progress = Progress.from_fields(entries[0].fields, entries[0].ref.id)

    async def attempt(_: int) -> None:
        await asyncio.gather(*(attempter.attempt(entry, progress) for entry in entries))

    await steps.time_awaited("it is attempted, in a task of its own", attempt, len(entries), 20)


async def fill(server: Server, count: int) -> None:
    stream = Producer(Client(server.url, filling.PREFIX))
    for numbers in chunks(count, 500):
        await stream.append([filling.message(number) for number in numbers], PACKED_VERSION)
    await stream.client.close()


async def measure(bench: Bench, server: Server) -> None:
    """Run the benchmark: both programs' steps in each round."""
    received = bench.table("The receiver's steps", "\u00b5s of CPU time a message", digits=1)
    worked = bench.table("The worker's steps", "\u00b5s of CPU time a message", digits=1)
    calls = 10 if bench.quick else CALLS
    path = bench.folder / "deliveries"
    size = deliveries.write(path, 1)
    with mock.patch.dict(os.environ, deliveries.environment(server.url, 0)):
        (source,) = sources_of(load_settings())
    stream = Producer(Client(server.url, "receiving"))
    for _ in bench.each_round():
        await receiver(Steps(received, calls), source, path.read_bytes()[:size], stream)
        await worker(bench, Steps(worked, calls), server)
        await stream.client.ask_servers(("FLUSHALL",))
    await stream.client.close()


def main(arguments: list[str] | None = None) -> None:
    given = options(__doc__, ROUNDS, "steps").parse_args(arguments)
    with Bench("steps", given, pins(the_process=SUBJECT)) as bench, pinned_to(SUBJECT):
        with bench.redis() as server, Path(os.devnull).open("w") as nowhere:
            with redirect_stdout(nowhere):
                logs.configure_logs("json")
            process.run(measure(bench, server))
        bench.finish()


if __name__ == "__main__":
    main()
