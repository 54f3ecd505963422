"""The spool on a disk that is full: on a small file system of its own, which the test fills."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import pytest
import redis

from hookmill.errors import StreamUnavailableError
from hookmill.runtime.spool_file import SpoolError
from hookmill.stream.arrival import Row, row_of
from hookmill.stream.producer import Producer
from receiver import drainer as drainer_module
from receiver.drain_progress import Refusals
from receiver.drainer import Drainer
from receiver.spool import Spool
from tests.receiver.spools import in_partition
from tests.support import eventually, message

MIB = 1024 * 1024


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a file system of 24 MB, which only root may do."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(folder)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        pytest.skip(f"a file system cannot be mounted here: {error}")
    if done.returncode:
        pytest.skip(f"a file system cannot be mounted here: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(folder: Path) -> Path:
    """Take all the room that is left, as another program's log does."""
    path = folder / "other.log"
    with path.open("ab", buffering=0) as file:
        for size in (MIB, 4096):
            with suppress(OSError):
                while file.write(bytes(size)) == size:
                    pass
    disk = os.statvfs(folder)
    assert disk.f_bavail == 0
    return path


async def put_until_full(spool: Spool, size: int) -> int:
    count = 0
    with suppress(SpoolError):
        while True:
            await spool.put([Row({b"id": b"m%d" % count, b"body": os.urandom(size)})])
            count += 1
    return count


class Redis:
    """Takes what is drained."""

    def __init__(self) -> None:
        self.names: list[str] = []

    async def append(self, given: Sequence[Row]) -> Refusals:
        self.names += [one.fields[b"id"].decode() for one in given]
        return {}


@pytest.mark.parametrize("size", [500, 20_000, MIB, 7 * MIB])
@pytest.mark.parametrize("others", [False, True], ids=["by the spool", "by others too"])
async def test_what_filled_the_disk_is_drained_once_and_the_room_is_used_again(
    small_disk: Path, size: int, *, others: bool
) -> None:
    spool, target = Spool(small_disk / "spool", 2**30), Redis()
    await spool.open()
    count = await put_until_full(spool, size)
    assert count
    if others:
        fill(small_disk)
    assert await spool.drain(target.append) == count
    assert target.names == [f"m{number}" for number in range(count)]
    assert not spool.is_active
    assert await spool.count() == 0
    assert not spool._drained.is_out_of_room
    await spool.put([Row({b"id": b"new", b"body": os.urandom(size)})])
    assert await spool.drain(target.append) == 1
    assert target.names[-1] == "new"
    await spool.close()


async def test_rows_that_cannot_be_deleted_are_appended_once_also_by_the_next_process(
    small_disk: Path,
) -> None:
    spool, target = Spool(small_disk / "spool", 2**30), Redis()
    await spool.open()
    for number in range(3):
        await spool.put([Row({b"id": b"m%d" % number, b"body": os.urandom(100_000)})])
    spool._drained.reserve.release()
    spool._file.free_the_log()
    other_log = fill(small_disk)

    assert await spool.drain(target.append) == 3
    assert not spool.is_active  # Redis takes what comes next
    assert spool.needs_cleaning
    assert spool._file.count() == 3
    await spool.close()

    following = Spool(small_disk / "spool", 2**30)
    await following.open()
    assert not following.is_active
    assert await following.count() == 0
    await following.clean()
    assert following.needs_cleaning
    with pytest.raises(SpoolError, match="full"):
        await following.put([Row({b"id": b"too much"})])

    other_log.unlink()
    await following.clean()
    assert not following.needs_cleaning
    assert following._file.count() == 0
    assert following._drained.reserve.is_there
    await following.put([Row({b"id": b"m3"})])
    assert await following.drain(target.append) == 1
    assert target.names == ["m0", "m1", "m2", "m3"]
    await following.close()


async def test_what_is_behind_rows_that_cannot_be_deleted_is_drained(small_disk: Path) -> None:
    spool, target = Spool(small_disk / "spool", 2**30), Redis()
    await spool.open()
    await spool.put([Row({b"id": b"m0"})])
    spool._drained.reserve.release()
    spool._file.free_the_log()
    other_log = fill(small_disk)
    assert await spool.drain(target.append) == 1
    with other_log.open("r+b") as file:  # a little room, and less than the delete needs
        file.truncate(other_log.stat().st_size - 64 * 1024)
    await spool.put([Row({b"id": b"m1"})])
    fill(small_disk)
    assert await spool.drain(target.append) == 1
    assert target.names == ["m0", "m1"]
    await spool.close()


async def test_on_a_full_disk_what_was_drained_past_a_held_up_partition_is_appended_once(
    small_disk: Path,
) -> None:
    spool = Spool(small_disk / "spool", 2**30, partitions=2)
    names: list[bytes] = []
    is_refusing = True

    async def append(given: Sequence[Row]) -> Refusals:
        taken = [one for one in given if not (is_refusing and one.partition(2))]
        names.extend(one.fields[b"id"] for one in taken)
        return {1: StreamUnavailableError("refused")} if len(taken) < len(given) else {}

    await spool.open()
    await spool.put([in_partition(number % 2, f"m{number}", 2) for number in range(6)])
    spool._drained.reserve.release()
    spool._file.free_the_log()
    other_log = fill(small_disk)
    assert await spool.drain(append) == 3
    assert spool._file.count() == 6
    assert 1 in spool.spooled
    await spool.close()

    following = Spool(small_disk / "spool", 2**30, partitions=2)
    await following.open()
    assert await following.count() == 3
    other_log.unlink()
    is_refusing = False
    assert await following.drain(append) == 3
    assert names == [b"m0", b"m2", b"m4", b"m1", b"m3", b"m5"]
    assert not following.is_active
    assert following._file.count() == 0
    await following.close()


async def test_a_drainer_appends_what_filled_the_disk_once(
    small_disk: Path, stream: Producer, redis_client: redis.Redis
) -> None:
    spool = Spool(small_disk / "spool", 2**30)
    await spool.open()
    count = 0
    with suppress(SpoolError):
        while True:
            await spool.put([row_of(message(b"x" * 20_000, id=f"m{count}"))])
            count += 1
    fill(small_disk)
    drainer = Drainer(spool, stream, 5.0)
    for _ in range(3):
        await drainer._drain_if_needed()
    assert redis_client.xlen(stream.partitions[0].stream) == count
    assert not spool.is_active
    await spool.close()


async def test_a_drainer_keeps_room_as_soon_as_there_is_some(
    small_disk: Path, stream: Producer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drainer_module, "CLEAN_PERIOD", 0.05)
    spool = Spool(small_disk / "spool", 2**30)
    await spool.open()
    await spool.put([row_of(message())])
    spool._drained.reserve.release()
    spool._file.free_the_log()
    other_log = fill(small_disk)
    drainer = Drainer(spool, stream, 5.0)
    drainer.start()
    await eventually(lambda: not spool.is_active)
    assert spool.needs_cleaning
    other_log.unlink()
    await eventually(lambda: not spool.needs_cleaning)
    assert spool._drained.reserve.is_there
    assert spool._file.count() == 0
    await drainer.stop()
    await spool.close()
