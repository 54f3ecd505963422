"""The spool when something fails: a delete, a process, the reading of a row."""

from __future__ import annotations

from pathlib import Path

import pytest

from hookmill.runtime import spool_file
from hookmill.runtime.spool_file import SpoolError
from receiver import drain_pace
from tests.receiver.spools import MIB, OpenSpool, Redis, row, rows


def numbered(count: int) -> list[str]:
    return [f"m{number}" for number in range(count)]


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
