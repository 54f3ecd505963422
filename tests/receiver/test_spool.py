"""The spool: nothing lost, order kept, one drainer, also with several processes."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from hookmill.stream.arrival import Row
from receiver import drain_pace
from receiver.drain_progress import Refusals
from receiver.spool import Spool
from tests.receiver.spools import OpenSpool, Redis, row, rows
from tests.support import eventually


def numbered(count: int) -> list[str]:
    return [f"m{number}" for number in range(count)]


async def test_what_was_put_is_drained_once_unchanged_and_in_order(open_spool: OpenSpool) -> None:
    spool = await open_spool()
    given = [
        Row({b"id": b"\x00\xff", b"body": b"\r\n" * 70_000, b"": b""}, b"t" * 16, 2**40, 300_000),
        *rows(*numbered(20)),
    ]
    for one in given:
        await spool.put([one])
    drained: list[Row] = []

    async def append(batch: Sequence[Row]) -> Refusals:
        drained.extend(batch)
        return {}

    assert await spool.drain(append) == 21
    assert drained == given
    assert await spool.drain(append) == 0


async def test_what_was_put_is_there_after_a_restart(open_spool: OpenSpool) -> None:
    spool = await open_spool()
    await spool.put(rows("a", "b"))
    await spool.close()

    again, redis = await open_spool(), Redis()
    assert again.is_active
    await again.put(rows("c"))
    assert await again.drain(redis.append) == 3
    assert redis.names == ["a", "b", "c"]


async def test_a_lost_marker_comes_back_with_the_next_start(open_spool: OpenSpool) -> None:
    spool = await open_spool()
    await spool.put(rows("a"))
    spool._file.marker.path.unlink()  # as after a crash of the machine: its folder was not synced
    assert (await open_spool()).is_active


async def test_it_is_active_from_the_first_put_until_it_is_empty_for_every_process_that_shares_it(
    open_spool: OpenSpool,
) -> None:
    one, other, redis = await open_spool(), await open_spool(), Redis()
    assert not one.is_active
    assert not other.is_active
    await one.put(rows("a"))
    assert other.is_active
    await other.put(rows("b"))
    assert await other.drain(redis.append) == 2
    assert redis.names == ["a", "b"]
    assert not one.is_active


async def test_what_could_not_be_appended_stays_and_nothing_overtakes_it(
    open_spool: OpenSpool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drain_pace, "BATCH_MESSAGES", 2)
    spool, redis = await open_spool(), Redis()
    await spool.put(rows(*numbered(7)))
    for fails_after in (0, 2, 3):
        redis.fails_after = fails_after
        with pytest.raises(TimeoutError):
            await spool.drain(redis.append)
        assert spool.is_active
    redis.fails_after = None
    await spool.put(rows("late"))
    assert await spool.drain(redis.append) == 2
    assert redis.names == [*numbered(7), "late"]
    assert not spool.is_active


async def test_only_one_process_drains_at_a_time(open_spool: OpenSpool) -> None:
    one, other, redis = await open_spool(), await open_spool(), Redis()
    await one.put(rows("a"))
    redis.may_answer.clear()
    draining = asyncio.create_task(one.drain(redis.append))
    await redis.is_asked.wait()
    assert await other.drain(redis.append) == 0
    redis.may_answer.set()
    assert await draining == 1
    assert redis.names == ["a"]


@pytest.mark.parametrize("count", [1, 5], ids=["in the last batch", "before it"])
async def test_a_drain_that_ends_between_append_and_delete_appends_a_batch_twice_and_loses_none(
    open_spool: OpenSpool, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    monkeypatch.setattr(drain_pace, "BATCH_MESSAGES", 2)
    spool, redis = await open_spool(), Redis()
    await spool.put(rows(*numbered(count)))

    async def append_and_die(batch: Sequence[Row]) -> Refusals:
        await redis.append(batch)
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await spool.drain(append_and_die)
    appended_twice = list(redis.names)
    other = await open_spool()
    assert await other.drain(redis.append) == count
    assert redis.names == appended_twice + numbered(count)


async def test_a_put_during_the_last_batch_waits_and_the_file_is_still_drained_in_order(
    open_spool: OpenSpool,
) -> None:
    one, other, redis = await open_spool(), await open_spool(), Redis()
    await one.put(rows("a"))
    redis.may_answer.clear()
    draining = asyncio.create_task(one.drain(redis.append))
    await redis.is_asked.wait()
    putting = [asyncio.create_task(spool.put(rows("b"))) for spool in (one, other)]
    redis.may_answer.set()
    assert await draining == 1
    await asyncio.gather(*putting)
    assert one.is_active  # because of the new rows
    assert await one.drain(redis.append) == 2
    assert redis.names == ["a", "b", "b"]


async def test_rows_that_would_follow_a_drained_batch_are_not_stored(
    open_spool: OpenSpool,
) -> None:
    one, other, redis = await open_spool(), await open_spool(), Redis()
    await one.put(rows("a"))
    assert await other.follow(rows("b"))
    redis.may_answer.clear()
    draining = asyncio.create_task(one.drain(redis.append))
    await redis.is_asked.wait()
    following = [asyncio.create_task(spool.follow(rows("c"))) for spool in (one, other)]
    redis.may_answer.set()
    assert await draining == 2
    assert await asyncio.gather(*following) == [[False], [False]]
    assert not one.is_active
    assert await one.count() == 0
    assert redis.names == ["a", "b"]


async def test_what_another_process_puts_during_the_last_batch_is_not_forgotten(
    open_spool: OpenSpool,
) -> None:
    one, other, redis = await open_spool(), await open_spool(), Redis()
    await one.put(rows("a"))
    redis.may_answer.clear()
    draining = asyncio.create_task(one.drain(redis.append))
    await redis.is_asked.wait()
    putting = asyncio.create_task(other.put(rows("b")))
    await asyncio.sleep(0.05)  # it waits for the write lock by now
    redis.may_answer.set()
    assert await draining == 1
    await putting
    assert one.is_active
    assert await one.drain(redis.append) == 1
    assert redis.names == ["a", "b"]


async def test_under_a_steady_load_the_spool_is_drained_to_its_end(
    open_spool: OpenSpool,
) -> None:
    one, other, redis = await open_spool(), await open_spool(), Redis()
    written: list[str] = []
    is_over = False

    async def write(spool: Spool, sender: str) -> None:
        """Write as an appender does: to the spool while it is active, else to Redis."""
        number = 0
        while not is_over:
            name = f"{sender}-{number}"
            if not (spool.is_active and all(await spool.follow(rows(name)))):
                await redis.append(rows(name))
            written.append(name)
            number += 1
            await asyncio.sleep(0)

    await one.put(rows("first"))
    writers = [asyncio.create_task(write(spool, str(spool is one))) for spool in (one, other)]
    await eventually(lambda: len(written) > 50)
    assert await one.drain(redis.append) > 50
    left_at = len(written)
    await eventually(lambda: len(written) > left_at + 50)
    is_over = True
    await asyncio.gather(*writers)
    assert not one.is_active
    assert await one.count() == 0
    assert sorted(redis.names) == sorted(["first", *written])
    for sender in ("True", "False"):
        numbers = [int(name[len(sender) + 1 :]) for name in redis.names if name.startswith(sender)]
        assert numbers == list(range(len(numbers)))


@pytest.mark.parametrize(
    ("sizes", "batches"), [([10] * 7, [3, 3, 1]), ([600, 600, 10], [1, 2]), ([5000, 10], [1, 1])]
)
async def test_a_step_of_draining_is_bounded_in_messages_and_bytes(
    open_spool: OpenSpool, monkeypatch: pytest.MonkeyPatch, sizes: list[int], batches: list[int]
) -> None:
    monkeypatch.setattr(drain_pace, "BATCH_MESSAGES", 3)
    monkeypatch.setattr(drain_pace, "BATCH_BYTES", 1000)
    spool, redis = await open_spool(), Redis()
    await spool.put([row("m", size) for size in sizes])
    await spool.drain(redis.append)
    assert redis.batches == batches
