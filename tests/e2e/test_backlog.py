"""Real programs with a limit to the backlog: what counts to it, and for whom."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import redis

from hookmill.stream.arrival import row_of
from hookmill.stream.keys import Keys
from tests.e2e.line import Line, Post
from tests.support import Program, Server, message, wait_until

MB = 1_000_000

HANDLERS = """
from hookmill import Delivery, Handlers, Message, Retry
from ledger import _write

handlers = Handlers()


@handlers.on("*")
async def work(delivery: Delivery[Message]) -> None:
    if len(delivery.event.body) < 1000:
        raise Retry(after=3600)
    _write("end", delivery.id, delivery.attempt)
"""

PARTITIONS = 4
FULL = 2


async def test_finished_large_messages_do_not_have_deliveries_refused_while_small_ones_wait(
    line: Line, start_program: Callable[..., Program], tmp_path: Path, redis_client: redis.Redis
) -> None:
    (tmp_path / "waiting.py").write_text(HANDLERS)
    keys = Keys(line.env["HOOKMILL_PREFIX"]).of_group("main")
    line.receiver(HOOKMILL_BACKLOG_BYTES=str(4 * MB))
    worker = start_program("worker", "waiting:handlers", env=line.env)
    worker.wait_for('"working"')
    small = [line.order_of(f"small{n}", b"{}") for n in range(200)]
    assert await line.send(small) == {200: 200}
    wait_until(lambda: redis_client.zcard(keys.delayed) == 200, what="delayed messages")
    for number in range(20):
        assert await line.send([line.order_of(f"large{number}", b"x" * MB)]) == {200: 1}
        line.wait_for_handled(number + 1)
    assert await line.send([line.order_of("last", b"{}")]) == {200: 1}
    # A worker that is stopped before it has tried the last one hands it back. The test does not
    # look there.
    wait_until(lambda: redis_client.zcard(keys.delayed) == 201, what="the last one to be delayed")
    assert worker.stop() == 0
    for key in (keys.delayed, keys.delayed_entries):
        redis_client.delete(key)
    redis_client.delete(keys.stream)


def body_in(partition: int, number: int) -> bytes:
    """A body whose delivery belongs to a partition."""
    bodies = (b'{"n":%d,"try":%d}' % (number, tried) for tried in range(1000))
    return next(body for body in bodies if row_of(message(body)).partition(PARTITIONS) == partition)


async def test_a_full_partition_with_a_spooled_message_refuses_only_its_own(
    start_program: Callable[..., Program], own_server: Callable[..., Server], tmp_path: Path
) -> None:
    server = own_server("--appendonly", "yes", "--appendfsync", "always")
    line = Line(start_program, tmp_path, server.url, "hookmill")
    receiver = line.receiver(
        HOOKMILL_PARTITIONS=str(PARTITIONS),
        HOOKMILL_BACKLOG_MESSAGES=str(2 * PARTITIONS),
        HOOKMILL_SPOOL=str(tmp_path / "spool"),
        HOOKMILL_APPEND_TIMEOUT="3",
    )

    def posts(number: int) -> list[Post]:
        return [
            line.order_of(f"m{partition}-{number}", body_in(partition, number))
            for partition in range(PARTITIONS)
        ]

    for number in range(2):
        assert await line.send([posts(number)[FULL]]) == {200: 1}
    server.kill()
    assert await line.send(posts(2)) == {200: PARTITIONS}
    server.start()
    receiver.wait_for('"the spool cannot be drained"')
    marker = tmp_path / "spool.active"
    wait_until(lambda: marker.read_text() == str(FULL), what="the others to be drained")
    assert await line.send(posts(3)) == {200: PARTITIONS - 1, 503: 1}
    assert f"partition {FULL}: too many messages are unfinished" in receiver.log
    with redis.Redis.from_url(server.url) as client:
        lengths = [client.xlen(Keys("hookmill", number).stream) for number in range(PARTITIONS)]
    assert lengths == [2] * PARTITIONS

    # A worker finishes them. Then the rest of the full partition follows from the spool.
    worker = line.worker(HOOKMILL_PARTITIONS=str(PARTITIONS), HOOKMILL_GRACE="1")
    wait_until(lambda: not marker.exists(), timeout=30, what="the spool to be drained")
    assert await line.send([posts(4)[FULL]]) == {200: 1}
    assert worker.stop() == 0
