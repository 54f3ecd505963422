"""The spool with several partitions: one that refuses its messages stops no other."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hookmill.errors import BacklogFullError, StreamUnavailableError
from hookmill.stream.arrival import Row
from receiver import drain_pace
from receiver.drain_progress import Refusals
from receiver.spool import Spool
from tests.receiver.spools import MIB, OpenSpool, in_partition

PARTITIONS = 3


class Partitions:
    """Takes what is drained, apart from what belongs to partitions that refuse."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.refused: dict[int, StreamUnavailableError] = {}
        self.refusals = 1_000_000  # so many appends, and then nothing is refused any more
        self.asked = 0

    async def append(self, given: Sequence[Row]) -> Refusals:
        self.asked += len(given)
        refused = {}
        for row in given:
            partition = row.partition(PARTITIONS)
            if partition in self.refused and self.refusals > 0:
                refused[partition] = self.refused[partition]
            else:
                self.names.append(row.fields[b"id"].decode())
        self.refusals -= bool(refused)
        return refused

    def of(self, partition: int) -> list[str]:
        return [name for name in self.names if name.startswith(f"{partition}-")]


def one(partition: int, number: int, size: int = 0) -> Row:
    return in_partition(partition, f"{partition}-{number}", PARTITIONS, size)


async def opened(path: Path) -> Spool:
    spool = Spool(path, 64 * MIB, PARTITIONS)
    await spool.open()
    return spool


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "spool"


@pytest.mark.parametrize("batch", [2, 512], ids=["in many batches", "in the last batch"])
async def test_a_partition_that_refuses_its_messages_stops_no_other_and_keeps_its_order(
    path: Path, monkeypatch: pytest.MonkeyPatch, batch: int
) -> None:
    monkeypatch.setattr(drain_pace, "BATCH_MESSAGES", batch)
    spool, redis = await opened(path), Partitions()
    redis.refused = {1: BacklogFullError("full")}
    await spool.put([one(number % PARTITIONS, number) for number in range(12)])
    assert spool.spooled.partitions or spool.spooled.is_all

    assert await spool.drain(redis.append) == 8
    assert redis.of(0) + redis.of(2) == [f"{n % 3}-{n}" for n in (0, 3, 6, 9, 2, 5, 8, 11)]
    assert redis.of(1) == []
    assert list(spool.held_up) == [1]
    # From now on the others go to Redis, and what follows in this one waits for its turn.
    assert [partition in spool.spooled for partition in range(PARTITIONS)] == [False, True, False]
    assert await spool.follow([one(0, 100), one(1, 101)]) == [False, True]

    asked = redis.asked
    assert await spool.drain(redis.append) == 0
    assert redis.asked - asked <= 2  # one message is enough to see that it still refuses
    redis.refused = {}
    assert await spool.drain(redis.append) == 5
    assert redis.of(1) == ["1-1", "1-4", "1-7", "1-10", "1-101"]
    assert not spool.is_active
    assert await spool.count() == 0
    await spool.close()


async def test_what_follows_a_refused_message_does_not_overtake_it_where_the_partition_recovers(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drain_pace, "BATCH_MESSAGES", 2)
    spool, redis = await opened(path), Partitions()
    redis.refused, redis.refusals = {1: StreamUnavailableError("refused")}, 1
    await spool.put([one(number % PARTITIONS, number) for number in range(12)])
    assert await spool.drain(redis.append) == 8
    assert await spool.drain(redis.append) == 4
    assert redis.of(1) == ["1-1", "1-4", "1-7", "1-10"]
    await spool.close()


async def test_a_partition_that_is_known_to_be_full_is_not_tried(path: Path) -> None:
    spool, redis = await opened(path), Partitions()
    redis.refused = {1: BacklogFullError("full")}
    await spool.put([one(1, 0)])
    await spool.drain(redis.append)
    asked = redis.asked
    await spool.drain(redis.append, full={1})
    assert redis.asked == asked
    await spool.close()


async def test_every_process_that_shares_the_file_knows_which_partitions_are_spooled(
    path: Path,
) -> None:
    spool, other, redis = await opened(path), await opened(path), Partitions()
    redis.refused = {2: StreamUnavailableError("WRONGTYPE")}
    await spool.put([one(0, 0), one(2, 1)])
    await spool.drain(redis.append)
    assert other.spooled.partitions == {2}
    await other.put([one(1, 2)])
    assert spool.spooled.partitions == {1, 2}
    redis.refused = {}
    assert await other.drain(redis.append) == 2
    assert not spool.is_active
    assert await spool.drain(redis.append) == 0
    # What this process held up was drained by the other one, and is not waited for.
    assert spool.held_up == {}
    for one_of_them in (spool, other):
        await one_of_them.close()


async def test_after_a_restart_everything_is_spooled_until_a_drain_has_seen_the_file(
    path: Path,
) -> None:
    spool, redis = await opened(path), Partitions()
    redis.refused = {1: BacklogFullError("full")}
    await spool.put([one(1, 0)])
    await spool.drain(redis.append)
    await spool.close()
    again = await opened(path)
    assert again.spooled.is_all  # a crash of the machine may have lost what the marker said
    await again.drain(redis.append)
    assert again.spooled.partitions == {1}
    await again.close()


async def test_a_marker_of_release_0_1_stands_for_all_partitions(open_spool: OpenSpool) -> None:
    spool = await open_spool()
    spool._file.marker.path.touch()  # as 0.1 makes it
    assert spool.spooled.is_all
    assert await spool.follow([one(0, 0)]) == [True]
    await spool.drain(Partitions().append)
    assert not spool.is_active


async def test_what_a_receiver_of_release_0_1_spools_beside_is_not_overtaken(path: Path) -> None:
    spool, redis = await opened(path), Partitions()
    redis.refused = {1: BacklogFullError("full")}
    await spool.put([one(1, 0)])
    await spool.drain(redis.append)
    assert spool.spooled.partitions == {1}

    # As 0.1 does it: it knows of no partitions, and leaves in the marker what is there.
    with spool._file.writing() as db:
        db.execute("INSERT INTO messages (row) VALUES (?)", (msgspec.msgpack.encode(one(0, 1)),))
        spool._file.marker.path.touch()
    assert await spool.follow([one(0, 2)]) == [True]

    await spool.drain(redis.append)
    assert redis.of(0) == ["0-1", "0-2"]
    assert spool.spooled.partitions == {1}  # and 0 goes to Redis again
    await spool.close()


async def test_where_the_marker_cannot_be_written_everything_is_spooled(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise OSError("no space left on device")

    spool = await opened(path)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", fail)
        await spool.put([one(0, 0)])
    assert spool.spooled.is_all
    await spool.close()


async def test_what_was_appended_past_a_partition_that_refuses_is_not_appended_by_the_next_process(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool, redis = await opened(path), Partitions()
    redis.refused = {0: BacklogFullError("full")}
    await spool.put([one(number % PARTITIONS, number) for number in range(6)])

    def die() -> None:
        raise RuntimeError

    monkeypatch.setattr(spool._file, "commit", die)
    with pytest.raises(RuntimeError):
        await spool.drain(redis.append)
    following = await opened(path)
    assert await following.count() == 2
    redis.refused = {}
    assert await following.drain(redis.append) == 2
    assert sorted(redis.names) == sorted(f"{n % PARTITIONS}-{n}" for n in range(6))
    assert not following.is_active
    await following.close()
    await spool.close()


class Model:
    """Two processes that share a file, and what was sent to each partition."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.spools: list[Spool] = []
        self.redis = Partitions()
        self.sent: dict[int, list[str]] = {partition: [] for partition in range(PARTITIONS)}
        self.number = 0

    async def put(self, which: int) -> None:
        """Send to some partitions, as an appender does."""
        for partition in range(PARTITIONS):
            if which >> partition & 1:
                await self.send(partition, self.spools[which % 2])

    async def send(self, partition: int, spool: Spool) -> None:
        row = one(partition, self.number)
        self.number += 1
        self.sent[partition].append(row.fields[b"id"].decode())
        if partition in spool.spooled and all(await spool.follow([row])):
            return
        if await self.redis.append([row]):
            await spool.put([row])

    async def refuse(self, which: int) -> None:
        error = StreamUnavailableError("refused")
        self.redis.refused = {p: error for p in range(PARTITIONS) if which >> p & 1}

    async def drain(self, which: int) -> None:
        await self.spools[which].drain(self.redis.append)

    async def fail(self, which: int) -> None:
        async def append(_: Sequence[Row]) -> Refusals:
            raise StreamUnavailableError("away")

        with suppress(StreamUnavailableError):
            await self.spools[which].drain(append)

    async def restart(self, which: int) -> None:
        await self.spools[which].close()
        self.spools[which] = await opened(self.path)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["put", "refuse"]), st.integers(0, 2**PARTITIONS - 1)),
        st.tuples(st.sampled_from(["drain", "fail", "restart"]), st.integers(0, 1)),
    ),
    max_size=40,
)


@given(steps=STEPS)
async def test_whatever_refuses_and_fails_each_partition_gets_its_messages_once_and_in_order(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int]]
) -> None:
    model = Model(tmp_path_factory.mktemp("model") / "spool")
    model.spools = [await opened(model.path) for _ in range(2)]
    try:
        for what, which in steps:
            await getattr(model, what)(which)
            for partition, sent in model.sent.items():
                drained = model.redis.of(partition)
                assert drained == sent[: len(drained)]
        model.redis.refused = {}
        await model.drain(0)
        assert {partition: model.redis.of(partition) for partition in model.sent} == model.sent
        assert not model.spools[1].is_active
    finally:
        for spool in model.spools:
            await spool.close()
