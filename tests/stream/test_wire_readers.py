"""Which wire versions every worker reads: said by heartbeats, and by consumers that have none."""

from __future__ import annotations

import pytest
import redis

from hookmill.errors import StreamUnavailableError
from hookmill.stream import older_workers
from hookmill.stream.client import Client
from hookmill.stream.entries import Settlement
from hookmill.stream.facts import Heartbeat
from hookmill.stream.groups import Groups
from hookmill.stream.heartbeats import Heartbeats
from hookmill.stream.producer import Producer
from hookmill.stream.upkeep import Upkeep
from hookmill.stream.wire_readers import WireReaders
from tests.stream.toolkit import OpenGroup
from tests.support import message

NEW, OLD = (1, 2, 3), (1, 2)


async def beat(stream: Producer, name: str, versions: tuple[int, ...], group: str = "main") -> None:
    heartbeat = Heartbeat(name=name, lease=60.0, wire_versions=versions)
    await Heartbeats(stream.client, group).write(heartbeat)


@pytest.fixture
def readers(stream: Producer) -> WireReaders:
    return WireReaders(stream.client, lease=0.1)


async def test_where_there_is_no_group_or_no_worker_nothing_is_known_of_the_next_one(
    stream: Producer, readers: WireReaders
) -> None:
    assert await readers.versions() == set()
    await Groups(stream.client).make("main")
    assert await readers.versions() == set()


async def test_a_version_has_to_be_read_by_every_worker_of_every_group(
    stream: Producer, readers: WireReaders
) -> None:
    groups = Groups(stream.client)
    await groups.make("main")
    await beat(stream, "a", NEW)
    assert await readers.versions() == set(NEW)

    await groups.add("search", "beginning")
    assert await readers.versions() == set()  # it has no worker
    await beat(stream, "b", NEW, "search")
    assert await readers.versions() == set(NEW)

    await beat(stream, "c", OLD, "search")
    assert await readers.versions() == set(OLD)


async def test_a_worker_without_a_heartbeat_counts_until_it_is_gone_or_was_silent_for_long(
    stream: Producer,
    open_group: OpenGroup,
    redis_client: redis.Redis,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def versions() -> frozenset[int]:
        return await WireReaders(stream.client, lease=0.0).versions()

    group = await open_group("old")
    await stream.append([message()])
    (entry,) = (await group.take(1)).entries
    await beat(stream, "new", NEW)
    monkeypatch.setattr(older_workers, "SILENCE", 60.0)
    assert await versions() == set()
    monkeypatch.setattr(older_workers, "SILENCE", 0.0)
    assert await versions() == set()  # it is of release 0.1, which may be silent for long

    numbers = stream.partitions[0].of_group("main").lease_numbers
    redis_client.hset(numbers, "old", 1)
    assert await versions() == set(NEW)
    monkeypatch.setattr(older_workers, "SILENCE", 60.0)
    assert await versions() == set()

    await group.settle([Settlement(entry.ref)])
    assert await Upkeep(stream.client, "main").retire(0, "old")
    assert await versions() == set(NEW)


async def test_a_worker_that_takes_and_has_a_heartbeat_counts_once(
    stream: Producer, readers: WireReaders, open_group: OpenGroup
) -> None:
    group = await open_group("new")
    await stream.append([message()])
    (entry,) = (await group.take(1)).entries
    await group.settle([Settlement(entry.ref)])
    await beat(stream, "new", NEW)
    assert await readers.versions() == set(NEW)


async def test_where_redis_does_not_answer_the_question_fails() -> None:
    async with Client("redis://127.0.0.1:1/0", "t", timeout=0.5) as client:
        with pytest.raises(StreamUnavailableError):
            await WireReaders(client, lease=1.0).versions()


@pytest.mark.parametrize(
    "text",
    [
        b'{"name":"odd","lease":60.0}',
        b'{"name":"odd","lease":60.0,"wire_versions":["1","3"]}',
        b'{"name":"odd","lease":60.0,"wire_versions":[%s]}' % (b"9" * 5000),
        b'{"name":"odd\xff","lease":60.0,"wire_versions":[1,2,3]}',
        b'{"name":"odd","lease":60.0,"later":%s' % (b"[" * 100_000),
        b"",
    ],
    ids=["without versions", "texts", "a huge number", "no UTF-8", "nested deep", "empty"],
)
async def test_a_heartbeat_that_cannot_be_read_names_no_version_and_no_look_fails(
    stream: Producer, readers: WireReaders, redis_client: redis.Redis, text: bytes
) -> None:
    await Groups(stream.client).make("main")
    await beat(stream, "new", NEW)
    await beat(stream, "odd", NEW)
    redis_client.hset(stream.partitions[0].of_group("main").heartbeats, "odd", text)
    assert await readers.versions() == set()
    assert len(await Heartbeats(stream.client, "main").read()) == 2
