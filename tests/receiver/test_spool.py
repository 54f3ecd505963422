"""The spool's file: nothing lost, order kept, one drainer, also with several processes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path

import pytest

from hookmill.runtime import spool_file
from hookmill.runtime.spool_file import SpoolError
from hookmill.stream.arrival import Row
from receiver import drain_pace
from receiver.spool import Spool
from tests.support import eventually

MIB = 1024 * 1024

OpenSpool = Callable[..., Awaitable[Spool]]


@pytest.fixture
async def open_spool(tmp_path: Path) -> AsyncIterator[OpenSpool]:
    """Open the test's file. Each opened spool acts as a process of its own."""
    opened: list[Spool] = []

    async def open_one(limit: int = 64 * MIB, path: Path = tmp_path / "spool.db") -> Spool:
        spool = Spool(path, limit)
        opened.append(spool)
        await spool.open()
        return spool

    yield open_one
    for spool in opened:
        await spool.close()


def row(name: str, size: int = 0) -> Row:
    return Row({b"id": name.encode(), b"body": b"x" * size}, b"", 0, 0)


def rows(*names: str) -> list[Row]:
    return [row(name) for name in names]


def numbered(count: int) -> list[str]:
    return [f"m{number}" for number in range(count)]


class Redis:
    """Takes what is drained, and can be away or slow."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.batches: list[int] = []
        self.fails_after: int | None = None
        self.is_asked = asyncio.Event()
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    async def append(self, given: Sequence[Row]) -> None:
        if self.fails_after is not None and len(self.batches) >= self.fails_after:
            raise TimeoutError
        self.is_asked.set()
        await self.may_answer.wait()
        self.batches.append(len(given))
        self.names += [one.fields[b"id"].decode() for one in given]


async def test_what_was_put_is_drained_once_unchanged_and_in_order(open_spool: OpenSpool) -> None:
    spool = await open_spool()
    given = [
        Row({b"id": b"\x00\xff", b"body": b"\r\n" * 70_000, b"": b""}, b"t" * 16, 2**40, 300_000),
        *rows(*numbered(20)),
    ]
    for one in given:
        await spool.put([one])
    drained: list[Row] = []

    async def append(batch: Sequence[Row]) -> None:
        drained.extend(batch)

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
    spool._file.marker.unlink()  # as after a crash of the machine: its folder was not synced
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

    async def append_and_die(batch: Sequence[Row]) -> None:
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
    assert await asyncio.gather(*following) == [False, False]
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
            if not (spool.is_active and await spool.follow(rows(name))):
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


async def test_a_full_spool_takes_all_of_a_put_or_nothing_until_it_was_drained(
    open_spool: OpenSpool,
) -> None:
    spool, redis = await open_spool(limit=MIB), Redis()
    await spool.put([row("a", MIB // 2)])
    with pytest.raises(SpoolError, match="it is full: it may hold 1048576 bytes"):
        await spool.put([row("small"), row("large", MIB // 2)])
    await spool.put([row("b", MIB // 4)])
    await spool.probe()
    assert await spool.drain(redis.append) == 2
    await spool.put([row("c", MIB // 2)])  # the space is used again
    assert await spool.drain(redis.append) == 1
    assert redis.names == ["a", "b", "c"]


async def test_a_full_spool_is_not_ready(open_spool: OpenSpool) -> None:
    spool = await open_spool()
    await spool.put([row("m", MIB)])
    await spool.probe()
    with pytest.raises(SpoolError, match="full"):
        await (await open_spool(limit=MIB)).probe()


async def test_a_full_disk_is_an_error_and_no_harm(open_spool: OpenSpool) -> None:
    spool, redis = await open_spool(), Redis()
    await spool.put(rows("a"))
    file = spool._file.db
    pages = file.execute("PRAGMA page_count").fetchone()[0]
    file.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(SpoolError, match="full"):
        await spool.put([row("large", 100_000)])
    file.execute("PRAGMA max_page_count = 100000")
    await spool.put(rows("b"))
    assert await spool.drain(redis.append) == 2
    assert redis.names == ["a", "b"]


async def test_each_put_is_synced_to_the_disk_also_after_a_drain(open_spool: OpenSpool) -> None:
    spool, redis = await open_spool(), Redis()
    for _ in range(2):
        modes = [
            spool._file.db.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("journal_mode", "synchronous")
        ]
        assert modes == ["wal", 2]  # FULL
        await spool.put(rows("a"))
        await spool._in_thread(lambda: spool._file.delete_unsynced(1))
        await spool.drain(redis.append)


async def test_another_writer_that_holds_the_file_too_long_is_an_error(
    open_spool: OpenSpool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool_file, "BUSY_TIMEOUT", 0.05)
    stopped, spool = await open_spool(), await open_spool()
    await stopped._in_thread(stopped._file.begin)
    with pytest.raises(SpoolError, match="locked"):
        await spool.put(rows("a"))
    await stopped._in_thread(stopped._file.rollback)
    await spool.put(rows("a"))


async def test_only_its_owner_may_read_it(open_spool: OpenSpool, tmp_path: Path) -> None:
    spool = await open_spool()
    await spool.put(rows("a"))
    names = ("spool.db", "spool.db-wal", "spool.db-shm", "spool.db.lock", "spool.db.reserve")
    assert others_rights(tmp_path) == dict.fromkeys(names, 0)


def others_rights(folder: Path) -> dict[str, int]:
    files = [file for file in folder.iterdir() if file.name != "spool.db.active"]  # it is empty
    return {file.name: file.stat().st_mode & 0o077 for file in files}


async def test_processes_that_open_a_new_file_at_once_do_not_disturb_each_other(
    open_spool: OpenSpool,
) -> None:
    spools = await asyncio.gather(*(open_spool() for _ in range(8)))
    await asyncio.gather(*(spool.put(rows("m")) for spool in spools))
    assert await spools[0].count() == 8


@pytest.mark.parametrize("name", ["no/such/folder/spool.db", "not-a-database", "folder"])
async def test_a_path_that_cannot_be_a_spool_is_an_error_that_names_it(
    open_spool: OpenSpool, tmp_path: Path, name: str
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "not-a-database").write_text("something else entirely\n" * 100)
    with pytest.raises(SpoolError, match=name):
        await open_spool(path=tmp_path / name)


async def test_a_batch_whose_delete_failed_is_not_appended_again(
    open_spool: OpenSpool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drain_pace, "BATCH_MESSAGES", 2)
    monkeypatch.setattr(spool_file, "BUSY_TIMEOUT", 0.05)
    spool, other, redis = await open_spool(), await open_spool(), Redis()
    await spool.put(rows(*numbered(5)))
    await other._in_thread(other._file.begin)  # it holds the write lock
    for _ in range(3):
        with pytest.raises(SpoolError, match="locked"):
            await spool.drain(redis.append)
    await other._in_thread(other._file.rollback)
    await spool.drain(redis.append)
    assert redis.names == numbered(5)


async def test_a_process_that_dies_between_append_and_delete_leaves_its_position(
    open_spool: OpenSpool, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool, redis = await open_spool(), Redis()
    await spool.put(rows(*numbered(3)))

    def die() -> None:
        raise RuntimeError

    monkeypatch.setattr(spool._file, "commit", die)
    with pytest.raises(RuntimeError):
        await spool.drain(redis.append)
    following = await open_spool()
    await following.put(rows("m3"))
    assert await following.count() == 1
    assert await following.drain(redis.append) == 1
    assert redis.names == numbered(4)


async def test_the_position_of_another_file_does_not_count(
    open_spool: OpenSpool, tmp_path: Path
) -> None:
    spool, redis = await open_spool(), Redis()
    await spool.put(rows(*numbered(3)))
    await spool.drain(redis.append)
    await spool.close()
    (tmp_path / "spool.db").unlink()
    new = await open_spool()
    await new.put(rows("n0", "n1", "n2", "n3"))
    assert await new.drain(redis.append) == 4


async def test_a_row_that_cannot_be_read_is_set_aside_and_the_rest_is_drained(
    open_spool: OpenSpool,
) -> None:
    spool, redis = await open_spool(), Redis()
    await spool.put(rows("a", "b", "c", "d"))
    spool._file.db.execute("UPDATE messages SET row = ? WHERE position = 2", (b"\xc1" * 99,))
    spool._file.db.execute("UPDATE messages SET row = ? WHERE position = 4", (b"\x01",))
    assert await spool.drain(redis.append) == 2
    assert redis.names == ["a", "c"]
    assert not spool.is_active
    found = spool._file.all_set_aside()
    assert [(one.position, one.size) for one in found] == [(2, 99), (4, 1)]
    assert "MessagePack data is malformed" in found[0].reason
    assert "Expected `object`, got `int`" in found[1].reason


async def test_what_is_set_aside_counts_to_the_limit(open_spool: OpenSpool) -> None:
    spool, redis = await open_spool(limit=MIB), Redis()
    await spool.put([row("a", MIB // 2)])
    spool._file.db.execute("UPDATE messages SET row = zeroblob(length(row))")
    assert await spool.drain(redis.append) == 0
    with pytest.raises(SpoolError, match="full"):
        await spool.put([row("b", MIB // 2)])
    assert spool._file.drop([1]) == 1
    await spool.put([row("b", MIB // 2)])


async def test_what_was_set_aside_can_be_tried_again_behind_the_others(
    open_spool: OpenSpool,
) -> None:
    spool, redis = await open_spool(), Redis()
    await spool.put(rows("a", "b"))
    (genuine,) = spool._file.db.execute("SELECT row FROM messages WHERE position = 1").fetchone()
    spool._file.db.execute("UPDATE messages SET row = x'c1' WHERE position = 1")
    await spool.drain(redis.append)
    assert spool._file.retry([7]) == 0
    assert not spool.is_active
    spool._file.db.execute(
        "UPDATE set_aside SET row = ?", (genuine,)
    )  # as a newer release reads it
    await spool.put(rows("c"))
    assert spool._file.retry([1]) == 1
    assert await spool.drain(redis.append) == 2
    assert redis.names == ["b", "c", "a"]
