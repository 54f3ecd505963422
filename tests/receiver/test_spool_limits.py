"""The spool's file: its limits in messages and bytes, its disk, and who may read it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from hookmill.runtime import spool_file
from hookmill.runtime.spool_file import SpoolError
from tests.receiver.spools import MIB, OpenSpool, Redis, row, rows


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
        await spool._in_thread(lambda: spool._file.delete_unsynced([1]))
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
