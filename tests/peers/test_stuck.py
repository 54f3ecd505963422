"""Where others forget a message: unread, held by a dead worker, behind many, after a failure."""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import redis

from hookmill import Delivery, Handlers, Message, Retry
from hookmill.handlers import Backoff
from hookmill.stream.consumer import Consumer
from hookmill.stream.dead_letters import DeadLetters
from hookmill.stream.producer import Producer
from tests.e2e.line import Line
from tests.peers.view import View
from tests.peers.work import Work, Workers, names, on_one_server, send, settings_of
from tests.support import Program, Server, Stream, dead_letters, eventually, message, wait_until

OpenGroup = Callable[..., Awaitable[Consumer]]

HEAP = 100_000


# --- held by a dead worker ------------------------------------------------------------------


async def test_what_a_dead_worker_held_is_taken_over_though_nothing_new_comes(
    stream: Producer, workers: Workers, view: View
) -> None:
    """taskiq-redis 1.2.4, run: an orphan on an idle stream lies there until a message comes."""
    work = Work()
    workers.start(work.handlers)
    await view.blocked()
    view.leave_behind("orphan")
    await eventually(lambda: work.done["orphan"])
    await view.drained()


async def test_a_killed_workers_message_waits_for_a_lease_not_for_its_handlers_timeout(
    own_server: Callable[..., Server], start_program: Callable[..., Program], tmp_path: Path
) -> None:
    """tobymao/saq#127, python-arq/arq#343, python-arq/arq#316: after a kill the job stays
    "in progress" for as long as it might have run, here three days.
    """
    server = own_server()
    (tmp_path / "slow.py").write_text(
        "import asyncio, os\n"
        "from hookmill import Handlers\n"
        "handlers = Handlers()\n"
        "@handlers.on('*', timeout=3 * 86_400)\n"
        "async def work(delivery):\n"
        "    print(f'begun in {os.getpid()}', flush=True)\n"
        "    await asyncio.sleep(float(os.environ['SECONDS']))\n"
    )
    env = {"REDIS_URL": server.url, "HOOKMILL_LEASE": "0.5"}
    victim = start_program("worker", "slow:handlers", env=env | {"SECONDS": "600"})
    stream = Stream(server.url, "hookmill")
    await send(stream, "m")
    await stream.close()
    victim.wait_for("begun in")
    victim.kill()
    survivor = start_program("worker", "slow:handlers", env=env | {"SECONDS": "0"})
    survivor.wait_for('"handled"')
    with redis.Redis.from_url(server.url) as client:
        await View(client, "hookmill").drained()
    assert survivor.stop() == 0


async def test_what_is_held_needs_no_record_beside_it_to_be_found(
    stream: Producer, open_group: OpenGroup, workers: Workers, redis_client: redis.Redis, view: View
) -> None:
    """hibiken/asynq#1144, hibiken/asynq#1158: an active task whose lease record is lost, to an
    eviction or a restore, is never looked at again.
    """
    gone = await open_group("gone")
    await send(stream, *names(5))
    await gone.take(5)
    kept = {stream.partitions[0].stream, gone.partitions[0].again}
    for raw in redis_client.scan_iter(f"{stream.partitions[0].base}:*"):
        if raw.decode() not in kept:
            redis_client.delete(raw)
    work = Work()
    workers.start(work.handlers)
    await view.drained()
    assert work.began == Counter(names(5))


async def test_what_was_deleted_while_it_was_held_does_not_stay_pending(
    stream: Producer, workers: Workers, redis_client: redis.Redis, view: View
) -> None:
    """redis/redis#10198: entries that were deleted or trimmed stay pending, and are claimed from
    one consumer to the next for ever.
    """
    work = Work()
    workers.start(work.handlers)
    await view.blocked()
    deleted: list[Any] = view.leave_behind(*names(30))[::3]
    assert redis_client.xdel(stream.partitions[0].stream, *deleted) == 10
    await view.drained()
    assert work.began == Counter(name for n, name in enumerate(names(30)) if n % 3)


# --- behind many others ---------------------------------------------------------------------

FILL = """
local key, consumer, count = KEYS[1], ARGV[1], tonumber(ARGV[2])
redis.call('XGROUP', 'CREATE', key, 'main', '0', 'MKSTREAM')
local fields = { unpack(ARGV, 3) }
for n = 0, count - 1 do
  for at = 1, #fields, 2 do
    if fields[at] == 'id' then fields[at + 1] = 'm' .. n end
    if fields[at] == 'digest' then fields[at + 1] = string.sub(redis.sha1hex(n), 1, 16) end
  end
  redis.call('XADD', key, '*', unpack(fields))
end
redis.call('XREADGROUP', 'GROUP', 'main', consumer, 'STREAMS', key, '>')
"""


def heap(client: redis.Redis, stream: Producer, consumer: str) -> None:
    """Have a consumer hold a hundred thousand messages."""
    pairs = message().to_fields().items()
    flat: list[Any] = [text for pair in pairs for text in pair]
    client.eval(FILL, 1, stream.partitions[0].stream, consumer, str(HEAP), *flat)
    assert View(client, "t").pending(consumer) == HEAP


async def test_a_hundred_thousand_messages_of_a_dead_worker_are_taken_over_in_small_batches(
    own_server: Callable[..., Server],
) -> None:
    """chrisguidry/docket#467, chrisguidry/docket#463: each claim began at the front, so what lay
    past its window was out of reach; and it took as many as there were.
    """
    server = own_server()
    stream = Stream(server.url, "t")
    work, workers = Work(held=True), Workers(settings_of(server))
    with redis.Redis.from_url(server.url, socket_timeout=60) as client:
        view = View(client, "t")
        heap(client, stream, "dead")
        worker = workers.start(work.handlers, concurrency=200)
        await eventually(lambda: work.running == 200)
        assert view.pending(worker.consumer_name) == 200
        assert view.pending("dead") == HEAP - 200
        work.go_on.set()
        # Several windows on: one claim looks at ten times as many as it may take.
        await eventually(lambda: len(work.done) >= 5_000, timeout=60)
        await workers.stop()
        # What it took last and had not begun was requeued.
        back: Any = client.xlen(stream.partitions[0].of_group("main").again)
        assert back <= 200
        assert view.pending("dead") == HEAP - len(work.done) - back
    assert work.began == Counter(names(len(work.began)))
    assert work.most == 200
    await stream.close()


async def test_one_orphan_behind_a_hundred_thousand_held_by_the_living_is_found(
    own_server: Callable[..., Server],
) -> None:
    """chrisguidry/docket#467, chrisguidry/docket#463: a window full of what is not to be claimed
    was looked at again and again, and nothing behind it.
    """
    server = own_server()
    stream = Stream(server.url, "t")
    key = stream.partitions[0].stream
    work, workers = Work(), Workers(settings_of(server))
    # The living worker renews the first hundred thousand, and so not the orphan.
    renew = f"XAUTOCLAIM', KEYS[1], 'main', 'living', 0, '0-0', 'COUNT', {HEAP}, 'JUSTID'"
    with redis.Redis.from_url(server.url, socket_timeout=60) as client:
        view = View(client, "t")
        heap(client, stream, "living")
        (orphan,) = await stream.append([message(id="orphan")])
        client.xreadgroup("main", "dead", {key: ">"})
        held: Any = [orphan]
        client.xclaim(key, "main", "dead", 0, held, idle=60_000, justid=True)
        workers.start(work.handlers, lease=5, concurrency=1000)

        async def is_found() -> bool:
            client.eval(f"redis.call('{renew})", 1, key)
            await asyncio.sleep(0.25)
            return bool(work.done["orphan"])

        await eventually(is_found, timeout=60)
        assert work.began == {"orphan": 1}
        await eventually(lambda: view.pending() == HEAP)
        assert view.pending("living") == HEAP
    await workers.stop()
    await stream.close()


@on_one_server
async def test_a_message_that_comes_during_a_sweep_is_taken(
    stream: Producer, workers: Workers, view: View
) -> None:
    """chrisguidry/docket#463: sweeping what others hold keeps a worker from everything else."""
    busy, free = Work(held=True), Work()
    workers.start(busy.handlers, concurrency=200)
    await send(stream, *names(200))
    await eventually(lambda: busy.running == 200)
    # With one slot, a sweep looks at ten of them in one step.
    workers.start(free.handlers, concurrency=1)
    await view.watched_for_a_lease(free)
    for number in range(30):
        await send(stream, f"n{number}")
        await eventually(lambda n=number: free.done[f"n{n}"], what=f"n{number} to be taken")  # type: ignore[misc] # no lambda has annotations
    busy.go_on.set()
    await view.drained()
    assert not busy.began.keys() & free.began.keys()


@on_one_server
async def test_no_worker_holds_more_than_it_runs(
    stream: Producer, workers: Workers, view: View
) -> None:
    """FastStream 0.7.8, run, and taskiq-python/taskiq-redis#84: of four workers and five thousand
    messages one held all.
    """
    work = Work(held=True)
    await send(stream, *names(5_000))
    four = [workers.start(work.handlers, concurrency=10) for _ in range(4)]
    await eventually(lambda: work.running == 40)
    assert [view.pending(one.consumer_name) for one in four] == [10] * 4
    work.go_on.set()
    await view.drained()
    assert work.began == Counter(names(5_000))


# --- failed, and then? ----------------------------------------------------------------------


@on_one_server
async def test_a_message_whose_handler_raised_is_retried_also_after_a_restart(
    stream: Producer, workers: Workers, view: View
) -> None:
    """FastStream 0.7.8, run: the handler raises, the entry stays pending, and no restart brings
    it back.
    """
    handlers = Handlers()
    attempts: list[int] = []

    @handlers.on("*", attempts=1_000, backoff=Backoff(first=0.2, factor=1))
    async def work(delivery: Delivery[Message]) -> None:
        attempts.append(delivery.attempt)
        if not works:
            raise ValueError("not yet")

    works = False
    first = workers.start(handlers)
    await send(stream, "m")
    await eventually(lambda: len(attempts) >= 2)
    await workers.stop(first)
    assert view.pending() == 0
    works = True
    workers.start(handlers)
    await view.drained()
    assert attempts == list(range(1, len(attempts) + 1))


async def test_outcomes_that_could_not_be_written_are_written_later(
    own_server: Callable[..., Server],
) -> None:
    """hibiken/asynq#1051: tasks that ended while Redis answered with errors stayed active for
    ever.
    """
    server = own_server()
    stream = Stream(server.url, "t")
    work, workers = Work(held=True), Workers(settings_of(server))
    with redis.Redis.from_url(server.url) as client:
        view = View(client, "t")
        await send(stream, *names(20))
        workers.start(work.handlers)
        await eventually(lambda: work.running == 20)
        client.replicaof("127.0.0.1", "1")  # from here on every write is refused
        work.go_on.set()
        await eventually(lambda: len(work.done) == 20)
        assert view.pending() == 20
        client.replicaof("NO", "ONE")
        await view.drained()
    assert work.began == Counter(names(20))
    await workers.stop()
    await stream.close()


@on_one_server
async def test_a_retry_for_a_handler_that_is_gone_is_kept_and_hinders_no_other(
    stream: Producer, workers: Workers, redis_client: redis.Redis, view: View
) -> None:
    """svix/svix-webhooks#1511: a task for an endpoint that was deleted fails in its worker over
    and over.
    """
    old = Handlers()

    @old.on("*", name="removed")
    async def removed(delivery: Delivery[Message]) -> None:
        raise Retry(after=0.1)

    before = workers.start(old)
    await send(stream, "m")
    await eventually(lambda: redis_client.zcard(stream.partitions[0].of_group("main").delayed))
    await workers.stop(before)

    work = Work()
    workers.start(work.handlers, grace=0.5)
    await send(stream, *names(20))
    await eventually(lambda: len(work.done) == 20)
    await eventually(DeadLetters(stream.client, "main").count)
    await view.drained()
    (letter,) = await dead_letters(stream)
    assert (letter.fields[b"id"], letter.fields[b"reason"]) == (b"m", b"unknown_handler")
    assert work.began == Counter(names(20))
    redis_client.delete(stream.partitions[0].of_group("main").dead)


async def test_what_was_accepted_and_never_queued_is_queued_by_the_next_start(
    own_server: Callable[..., Server], start_program: Callable[..., Program], tmp_path: Path
) -> None:
    """frain-dev/convoy#1977: deliveries that were stored, and whose place in the queue was lost,
    wait until a person asks for them.
    """
    server = own_server()
    line = Line(start_program, tmp_path, server.url, "hookmill")
    spool = {"HOOKMILL_SPOOL": str(tmp_path / "spool.db"), "HOOKMILL_APPEND_TIMEOUT": "0.3"}
    receiver = line.receiver(**spool)
    server.kill()
    assert await line.send(line.order(n) for n in range(20)) == {200: 20}
    receiver.signal(signal.SIGKILL)
    receiver.wait()
    server.start()
    again, worker = line.receiver(**spool), line.worker()
    line.wait_for_handled(20)
    wait_until(lambda: not (tmp_path / "spool.db.active").exists(), what="an empty spool")
    assert line.noted() == {f"msg_{n}": 1 for n in range(20)}
    assert [again.stop(), worker.stop()] == [0, 0]
