"""The pace of a drain, by itself and behind a line that lets few bytes through."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import redis

from hookmill.config.settings import Settings
from hookmill.stream.arrival import row_of
from receiver import drain_pace
from receiver.drain_pace import BATCH_BYTES, BATCH_MESSAGES, LONGEST, DrainPace
from receiver.drainer import Drainer
from receiver.spool import Spool
from tests.receiver.serving import KEYS, StartAt, deliver
from tests.slow_line import SlowLine
from tests.support import Server, Stream, eventually, message

MB = 1_000_000


async def fails(pace: DrainPace, size: int, count: int, *, is_locked: bool = False) -> None:
    with pytest.raises(TimeoutError):
        async with pace.step(size, count, is_locked=is_locked):
            raise TimeoutError


async def test_after_a_timeout_batches_get_smaller_and_the_time_longer_and_then_back() -> None:
    pace = DrainPace(2.0)
    await fails(pace, 4 * MB, 100)
    assert (pace.bytes, pace.messages, pace.timeout) == (2 * MB, 50, 4.0)
    await fails(pace, 2 * MB, 50)
    assert (pace.bytes, pace.messages, pace.timeout) == (MB, 25, 8.0)
    for _ in range(5):
        async with pace.step(MB, 25):
            pass
    assert (pace.bytes, pace.messages, pace.timeout) == (BATCH_BYTES, BATCH_MESSAGES, 2.0)


async def test_the_time_does_not_grow_beyond_five_minutes_nor_batches_shrink_to_nothing() -> None:
    pace = DrainPace(2.0)
    for _ in range(20):
        await fails(pace, 1, 1)
    assert (pace.timeout, pace.messages) == (LONGEST, 1)
    assert pace.bytes > 0


async def test_what_did_not_pass_while_the_file_was_locked_is_not_tried_so_again() -> None:
    pace = DrainPace(2.0)
    await fails(pace, 1000, 1, is_locked=True)
    assert pace.locked_bytes < 1000
    assert pace.timeout == 2.0


async def test_how_much_is_appended_while_the_file_is_locked_follows_the_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pace, now = DrainPace(2.0), 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    async with pace.step(8 * MB, 1):
        now += 4
    assert pace.locked_bytes == MB
    async with pace.step(8 * MB, 1):
        now += 0.1
    assert pace.locked_bytes == BATCH_BYTES


@pytest.mark.parametrize("bytes_per_second", [5 * MB, MB], ids=["5 MB/s", "1 MB/s"])
async def test_behind_a_slow_line_a_large_message_is_drained_and_appended_once(
    server: Server, prefix: str, tmp_path: Path, redis_client: redis.Redis, bytes_per_second: int
) -> None:
    async with SlowLine(server.url, bytes_per_second).open() as line:
        stream, spool = Stream(line.url, prefix), Spool(tmp_path / "spool", 2**30)
        await spool.open()
        sent = [message(b"x" * size, id=f"m{n}") for n, size in enumerate((10, 9 * MB, 10, 10))]
        await spool.put([row_of(one) for one in sent])
        drainer = Drainer(spool, stream, 0.5)
        drainer.start()
        await eventually(lambda: not spool.is_active, timeout=40)
        await drainer.stop()
        found: Any = redis_client.xrange(stream.partitions[0].stream)
        assert [fields[b"id"] for _, fields in found] == [b"m0", b"m1", b"m2", b"m3"]
        await spool.close()
        await stream.close()


async def test_the_time_grows_until_a_message_passes_and_it_is_appended_once(
    server: Server,
    prefix: str,
    tmp_path: Path,
    redis_client: redis.Redis,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(drain_pace, "_SLOW_LINE", 1000 * MB)
    async with SlowLine(server.url, MB).open() as line:
        stream, spool = Stream(line.url, prefix), Spool(tmp_path / "spool", 2**30)
        await spool.open()
        await spool.put([row_of(message(b"x" * 3 * MB))])
        drainer = Drainer(spool, stream, 0.5)
        drainer.start()
        await eventually(lambda: not spool.is_active, timeout=40)
        await drainer.stop()
        assert drainer._pace.timeout > 0.5
        assert redis_client.xlen(stream.partitions[0].stream) == 1
        await spool.close()
        await stream.close()


# aiohttp's client advises against bodies of this size.
@pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning")
async def test_a_receiver_behind_a_slow_line_stores_a_large_delivery_once_and_small_ones_meanwhile(
    server: Server,
    settings: Callable[..., Settings],
    start_at: StartAt,
    http: aiohttp.ClientSession,
    tmp_path: Path,
    prefix: str,
    redis_client: redis.Redis,
) -> None:
    stream = f"{prefix}:{{0}}:stream"
    async with SlowLine(server.url, 5 * MB).open() as line:
        running = await start_at(
            settings(**KEYS, redis_url=line.url, append_timeout=1.0, spool=tmp_path / "spool")
        )
        spool = running.receiver._spool
        assert spool is not None
        assert (await deliver(running, http, b"x" * 9 * MB))[0] == 200
        assert spool.is_active
        loop = asyncio.get_running_loop()
        for number in range(5):
            begun = loop.time()
            assert (await deliver(running, http, b"%d" % number))[0] == 200
            assert loop.time() - begun < 1.0
        await eventually(lambda: not spool.is_active, timeout=40)
        assert redis_client.xlen(stream) == 6
        await running.receiver.stop()
