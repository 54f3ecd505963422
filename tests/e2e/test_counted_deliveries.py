"""What counts against a message, with real worker processes: runs, and deliveries."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import redis

from hookmill.stream.consumer import Consumer
from hookmill.stream.dead_letters import DeadLetters
from tests.e2e.line import Line
from tests.support import Program, Server, Stream, dead_letters, message, wait_until
from tests.worker.processes import WorkerProcesses

OwnServer = Callable[..., Server]

LEASE = "1"


async def send(url: str, *names: str, body: bytes = b"{}", held: int = 0) -> None:
    """Send messages; let as many be held by a consumer that is gone."""
    stream = Stream(url, "t")
    await stream.append([message(body, id=name, type="post.published") for name in names])
    if held:
        gone = Consumer(stream.client, "main", "gone", dedup_window=3600)
        await gone.open()
        assert len((await gone.take(held)).entries) == held
        await gone.close()
    await stream.close()


def test_a_message_that_passes_a_limit_of_redis_is_a_dead_letter_and_nothing_waits_for_it(
    own_server: OwnServer, start_program: Callable[..., Program], tmp_path: Path
) -> None:
    # Redis cuts a connection for which more than 4 MB wait.
    server = own_server()
    line = Line(start_program, tmp_path, server.url, "t")
    with redis.Redis.from_url(server.url) as client:
        client.config_set("client-output-buffer-limit", "normal 4194304 0 0")
        worker = line.worker(HOOKMILL_LEASE=LEASE)
        asyncio.run(send(server.url, "large", body=b"x" * 6_000_000))
        began = time.monotonic()
        asyncio.run(send(server.url, *(f"small-{number}" for number in range(20))))
        line.wait_for_handled(20)
        wait_until(lambda: client.xlen("t:{0}:main:dead"), what="a dead letter")
    assert time.monotonic() - began > 9 * float(LEASE)
    worker.wait_for('"undeliverable"')
    assert line.noted() == {f"small-{number}": 1 for number in range(20)}
    assert worker.stop() == 0
    letter, replayed = asyncio.run(_replay(server.url))
    assert (letter[b"id"], letter[b"reason"]) == (b"large", b"undeliverable")
    assert len(letter[b"body"]) == 6_000_000
    assert replayed == 1


async def _replay(url: str) -> tuple[Any, int]:
    stream = Stream(url, "t")
    with redis.Redis.from_url(url) as client:
        client.config_set("client-output-buffer-limit", "normal 0 0 0")
    (letter,) = await dead_letters(stream)
    replayed = await DeadLetters(stream.client, "main").replay([letter.id])
    await stream.close()
    return letter.fields, replayed


def test_many_suspects_are_shared_by_all_workers(
    own_server: OwnServer, start_program: Callable[..., Program], tmp_path: Path
) -> None:
    server = own_server()
    line = Line(start_program, tmp_path, server.url, "t")
    names = [f"m{number}" for number in range(24)]
    asyncio.run(send(server.url, *names, held=24))
    with redis.Redis.from_url(server.url) as client:
        key = "t:{0}:stream"
        rows: Any = client.xpending_range(key, "main", "-", "+", 24)
        ids = [row["message_id"] for row in rows]
        client.xclaim(key, "main", "gone", 0, ids, retrycount=2, justid=True)
    env = {"HOOKMILL_LEASE": "2", "LEDGER_PAUSE": "0.5"}
    workers = [line.worker(**env) for _ in range(3)]
    line.wait_for_handled(24)
    assert line.noted("begin") == Counter(names)
    assert [worker.stop() for worker in workers] == [0] * 3
    begun = [row.split() for row in line.ledger.read_text().splitlines() if row[:5] == "begin"]
    shares = Counter(pid for _, _, _, pid, _ in begun)
    assert len(shares) == 3
    assert max(shares.values()) <= 16
    for program in workers:  # each of them ran one at a time
        mine = [row for row in line.ledger.read_text().splitlines() if f" {program.pid} " in row]
        words = [row.split()[0] for row in mine]
        assert words == ["begin", "end"] * (len(words) // 2)


def test_lost_replies_to_the_count_of_runs_make_no_dead_letter(processes: WorkerProcesses) -> None:
    processes.send("work")

    async def hold() -> None:
        stream = Stream(processes.server.url, "hookmill")
        gone = Consumer(stream.client, "main", "gone", dedup_window=3600)
        await gone.open()
        (entry,) = (await gone.take(1)).entries
        await stream.client.execute(
            0, "XCLAIM", gone.partitions[0].stream, "main", "gone", 0, entry.ref.id,
            "RETRYCOUNT", 2, "JUSTID",
        )  # fmt: skip
        await gone.close()
        await stream.close()

    asyncio.run(hold())
    worker = processes.start(
        """
        from hookmill.errors import StreamUnavailableError
        from hookmill.stream.consumer import Consumer

        run_alone, lost = Consumer.run_alone, []

        async def lose(self, *args):
            times = await run_alone(self, *args)
            if len(lost) < 5:
                lost.append(times)
                raise StreamUnavailableError("no reply")
            return times

        Consumer.run_alone = lose

        @handlers.on("work")
        async def work(delivery):
            say(f"it runs after {len(lost)} lost replies")
        """,
        HOOKMILL_LEASE="1",
    )
    worker.wait_for("it runs after 5 lost replies")
    wait_until(processes.is_drained, what="the message to be settled")
    assert worker.stop() == 0
    assert "crashed" not in worker.log
