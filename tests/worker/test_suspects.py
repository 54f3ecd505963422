"""A topic of the pool: a message that kills its workers runs alone, and becomes a dead letter if it
kills more of them.
"""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import redis

from hookmill import Delivery, Handlers
from hookmill.errors import StreamUnavailableError
from hookmill.message import Message
from hookmill.stream.producer import Producer
from tests.e2e.line import Line
from tests.support import Program, Server, dead_letters, eventually, wait_until
from tests.worker.pools import (
    MakePool,
    Work,
    is_drained,
    names,
    pending,
    scripted,
    send,
)
from worker.pool import Pool


async def suspect(stream: Producer, client: redis.Redis) -> str:
    """Let a message be held by the second worker that it killed; return its entry ID."""
    gone = scripted(stream, "gone")
    await gone.open()
    await send(stream, "suspect")
    (entry,) = (await gone.take(1)).entries
    held: list[Any] = [entry.ref.id]
    key = gone.partitions[0].stream
    client.xclaim(key, "main", "gone", 0, held, idle=60_000, retrycount=2, justid=True)
    await gone.close()
    return entry.ref.id


async def pool_that_takes_over(make_pool: MakePool, stream: Producer, work: Work) -> Pool:
    consumer = scripted(stream, f"c-{id(work)}")
    return await make_pool(work.handlers, consumer=consumer, concurrency=5, lease=0.1)


async def test_a_suspect_begins_when_nothing_else_runs_and_nothing_begins_beside_it(
    stream: Producer, make_pool: MakePool, redis_client: redis.Redis
) -> None:
    handlers = Handlers()
    running: set[str] = set()
    beside: list[set[str]] = []
    gates = {"suspect": asyncio.Event(), "others": asyncio.Event()}

    @handlers.on("*")
    async def work(delivery: Delivery[Message]) -> None:
        running.add(delivery.id)
        beside.append(set(running))
        await gates["suspect" if delivery.id == "suspect" else "others"].wait()
        running.remove(delivery.id)

    await suspect(stream, redis_client)
    await send(stream, "m0", "m1")
    consumer = scripted(stream)
    pool = await make_pool(handlers, consumer=consumer, concurrency=5, lease=0.1)
    await eventually(lambda: pool._suspects or "suspect" in running)
    assert running == {"m0", "m1"}
    await send(stream, "m2", "m3")
    gates["others"].set()
    await eventually(lambda: "suspect" in running)
    await asyncio.sleep(0.1)  # time for what must not happen
    gates["suspect"].set()
    await eventually(lambda: is_drained(redis_client, stream))
    assert [each for each in beside if "suspect" in each] == [{"suspect"}]
    assert len(beside) == 5


async def test_what_ended_its_worker_three_times_while_alone_is_a_dead_letter(
    stream: Producer, make_pool: MakePool, redis_client: redis.Redis
) -> None:
    entry_id = await suspect(stream, redis_client)
    keys = stream.partitions[0].of_group("main")
    redis_client.hset(keys.suspects, f"1 {entry_id}", "3")
    work = Work()
    await pool_that_takes_over(make_pool, stream, work)
    await eventually(lambda: is_drained(redis_client, stream))
    assert not work.ran
    (letter,) = await dead_letters(stream)
    assert letter.fields[b"reason"] == b"crashed"
    assert not redis_client.exists(keys.suspects)
    redis_client.delete(keys.dead)


async def test_lost_replies_to_the_count_of_runs_do_not_count(
    stream: Producer, make_pool: MakePool, redis_client: redis.Redis
) -> None:
    entry_id = await suspect(stream, redis_client)
    keys = stream.partitions[0].of_group("main")
    work = Work(wait=True)
    consumer = scripted(stream)
    counts: list[int] = []

    def lose(times: int) -> None:
        counts.append(times)
        if len(counts) <= 4:
            raise StreamUnavailableError("no reply")

    consumer.after_run_alone = lose
    await make_pool(work.handlers, consumer=consumer, lease=0.1)
    await eventually(lambda: work.running)
    assert counts == [1] * 5
    assert redis_client.hget(keys.suspects, f"1 {entry_id}") == b"1"
    work.go_on.set()
    await eventually(lambda: is_drained(redis_client, stream))
    assert work.done == Counter(["suspect"])
    assert not redis_client.exists(keys.suspects)
    await eventually(lambda: not redis_client.exists(keys.deliveries))  # with the next look


async def test_suspects_are_shared_by_all_workers_while_each_runs_one_alone(
    stream: Producer, make_pool: MakePool, redis_client: redis.Redis
) -> None:
    gone = scripted(stream, "gone")
    await gone.open()
    await send(stream, *names(12))
    held: list[Any] = [entry.ref.id for entry in (await gone.take(12)).entries]
    key = stream.partitions[0].stream
    redis_client.xclaim(key, "main", "gone", 0, held, idle=60_000, retrycount=2, justid=True)
    works = [Work(wait=True) for _ in range(3)]
    for number, work in enumerate(works):
        consumer = scripted(stream, f"c{number}")
        await make_pool(work.handlers, consumer=consumer, concurrency=5, lease=0.2)
    await eventually(lambda: all(work.running == 1 for work in works))
    held_by = redis_client.xpending(key, "main")["consumers"]
    assert {row["name"]: row["pending"] for row in held_by} == {
        **{f"c{number}".encode(): 1 for number in range(3)},
        b"gone": 9,
    }
    for work in works:
        work.go_on.set()
    await eventually(lambda: is_drained(redis_client, stream))
    assert sum((work.done for work in works), Counter()) == Counter(names(12))
    assert {work.most for work in works} == {1}
    await gone.close()


async def test_a_suspect_that_is_requeued_is_no_suspect_any_more(
    stream: Producer, make_pool: MakePool, redis_client: redis.Redis
) -> None:
    await suspect(stream, redis_client)
    await send(stream, "m0")
    leaving, staying = Work(wait=True), Work()
    first = await pool_that_takes_over(make_pool, stream, leaving)
    await eventually(lambda: first._suspects)
    await first.stop(0)
    assert pending(redis_client, stream) == 0
    # No worker holds it, so it is taken again at once.
    await make_pool(staying.handlers, stream)
    await eventually(lambda: is_drained(redis_client, stream))
    assert staying.done == Counter(["m0", "suspect"])
    assert not redis_client.exists(stream.partitions[0].of_group("main").suspects)


# --- with whole programs --------------------------------------------------------------------

POISON = """
import asyncio, os, signal
from hookmill import Delivery, Handlers, Message

handlers = Handlers()
ledger = os.open(os.environ["LEDGER"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)

@handlers.on("*")
async def work(delivery: Delivery[Message]) -> None:
    os.write(ledger, f"begin {delivery.id} 1 {os.getpid()} 0\\n".encode())
    if delivery.id == "msg_13":
        await asyncio.sleep(0.05)  # the other messages have begun
        os.kill(os.getpid(), signal.SIGKILL)
    await asyncio.sleep(0.2)
    os.write(ledger, f"end {delivery.id} 1 {os.getpid()} 0\\n".encode())
"""


async def test_a_message_that_kills_its_workers_is_not_blamed_on_others(
    start_program: Callable[..., Program],
    tmp_path: Path,
    server: Server,
    prefix: str,
    redis_client: redis.Redis,
) -> None:
    line = Line(start_program, tmp_path, server.url, prefix)
    (tmp_path / "poison.py").write_text(POISON)
    line.receiver()
    env = line.env | {"HOOKMILL_LEASE": "0.5", "HOOKMILL_CONCURRENCY": "20"}
    worker = start_program("worker", "poison:handlers", env=env)
    assert await line.send(line.order(n) for n in range(20)) == {200: 20}

    deaths = 0
    dead = f"{prefix}:{{0}}:main:dead"

    def is_over() -> bool:
        nonlocal worker, deaths
        if worker.returncode is not None:
            assert worker.returncode == -signal.SIGKILL, worker.log
            deaths += 1
            worker = start_program("worker", "poison:handlers", env=env)
        return bool(redis_client.xlen(dead)) and len(line.noted()) == 19

    wait_until(is_over, timeout=60, what="19 handled messages and a dead letter")
    line.wait_for_drained(redis_client)
    assert worker.stop() == 0

    rows: Any = redis_client.xrange(dead)
    ((_, letter),) = rows
    assert (letter[b"id"], letter[b"reason"]) == (b"msg_13", b"crashed")
    # Twice among others, three times alone. Alone, it interrupts no other message.
    assert deaths == 5
    begun = line.noted("begin")
    assert begun.pop("msg_13") == 5
    assert max(begun.values()) <= 3
    assert not redis_client.exists(f"{prefix}:{{0}}:main:suspects")
    redis_client.delete(dead)
