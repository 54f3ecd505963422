"""Masters of a real cluster are replaced while messages are appended to all of its lanes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from hookmill.errors import NotDurableError, StreamUnavailableError
from hookmill.message import Message
from hookmill.stream.arrival import row_of
from hookmill.stream.client import Client
from hookmill.stream.lane_producers import LaneProducers
from hookmill.stream.topology import slot_of
from tests.redis_cluster import Cluster, running_cluster
from tests.stream.toolkit import bodies
from tests.support import eventually, message, server_binaries

PARTITIONS = 3


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    binary = next(iter(server_binaries().values()))
    with running_cluster(binary, tmp_path, masters=PARTITIONS, replicas=1) as running:
        yield running


class Load:
    """Appends to all lanes, each by itself, one message after another."""

    def __init__(self, client: Client, durability: str) -> None:
        self._producers = LaneProducers(client, durability=durability)
        self._bodies = bodies(PARTITIONS)
        self.accepted: list[set[str]] = [set() for _ in range(PARTITIONS)]
        self.refused: list[list[StreamUnavailableError]] = [[] for _ in range(PARTITIONS)]
        self._sending = [asyncio.create_task(self._send(number)) for number in range(PARTITIONS)]

    async def _send(self, lane: int) -> None:
        number = 0
        while True:
            number += 1
            row = row_of(message(self._bodies[lane], id=f"{lane}-{number}"))
            (result,) = await self._producers.append_rows([row])
            if isinstance(result, str):
                self.accepted[lane].add(f"{lane}-{number}")
            else:
                self.refused[lane].append(result)
            await asyncio.sleep(0.002)

    async def more(self, *lanes: int) -> None:
        """Wait until each of these lanes has accepted some more."""
        before = [len(some) for some in self.accepted]
        await eventually(lambda: all(len(self.accepted[n]) > before[n] + 20 for n in lanes))

    async def end(self) -> None:
        for task in self._sending:
            task.cancel()
        await asyncio.gather(*self._sending, return_exceptions=True)
        await self._producers.close()


async def stored(client: Client, lane: int) -> set[str]:
    """Return the IDs of all messages in a partition."""
    rows = await client.execute(lane, "XRANGE", client.partitions[lane].stream, "-", "+")
    each = (dict(zip(words[::2], words[1::2], strict=True)) for _, words in rows)
    return {Message.from_fields(fields).id for fields in each}


async def test_a_planned_failover_refuses_nothing(cluster: Cluster) -> None:
    async with Client(cluster.url, "t", partitions=PARTITIONS, timeout=5.0) as client:
        load = Load(client, "memory")
        await load.more(0, 1, 2)
        old = cluster.server_of(client.partitions[0].stream)
        cluster.ask(cluster.replica_of(old), "CLUSTER", "FAILOVER")
        await eventually(lambda: cluster.server_of(client.partitions[0].stream) is not old)
        await load.more(0, 1, 2)
        await load.end()
        assert load.refused == [[], [], []]
        for lane in range(PARTITIONS):
            assert load.accepted[lane] <= await stored(client, lane)


async def test_a_master_that_dies_is_replaced_and_only_its_own_messages_are_refused_meanwhile(
    cluster: Cluster,
) -> None:
    async with Client(cluster.url, "t", partitions=PARTITIONS, timeout=5.0) as client:
        load = Load(client, "replicas:1")
        await load.more(0, 1, 2)
        old = cluster.server_of(client.partitions[0].stream)
        old.kill()
        await load.more(1, 2)
        await eventually(lambda: cluster.server_of(client.partitions[0].stream) is not old)
        # It has no replica any more, so it answers as the durability says, until it has one.
        await eventually(lambda: isinstance(load.refused[0][-1], NotDurableError))
        old.start()
        await load.more(0, 1, 2)
        await load.end()
        assert load.refused[1:] == [[], []]
        for lane in range(PARTITIONS):
            assert load.accepted[lane] <= await stored(client, lane)


async def test_a_slot_that_moves_as_a_whole_refuses_nothing(cluster: Cluster) -> None:
    """Valkey 9 moves a slot in one step. The embedded server is one."""
    async with Client(cluster.url, "t", partitions=PARTITIONS, timeout=5.0) as client:
        load = Load(client, "memory")
        await load.more(0, 1, 2)
        key = client.partitions[0].stream
        source, slot = cluster.server_of(key), slot_of(key)
        target = next(node for node in cluster.nodes[:PARTITIONS] if node is not source)
        words = ("MIGRATESLOTS", "SLOTSRANGE", slot, slot, "NODE", cluster.id_of(target))
        cluster.ask(source, "CLUSTER", *words)
        await eventually(lambda: cluster.server_of(key) is target)
        await load.more(0, 1, 2)
        await load.end()
        assert load.refused == [[], [], []]
        for lane in range(PARTITIONS):
            assert load.accepted[lane] <= await stored(client, lane)
