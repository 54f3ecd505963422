"""A real cluster: partitions lie on several nodes, fail singly, and move while they are used."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest

from hookmill.errors import BacklogFullError, PartitionsError, StreamUnavailableError
from hookmill.stream.arrival import row_of
from hookmill.stream.client import Client
from hookmill.stream.consumer import Consumer
from hookmill.stream.entries import Settlement
from hookmill.stream.facts import Backlog
from hookmill.stream.lane_producers import LaneProducers
from hookmill.stream.producer import Producer
from hookmill.stream.script_runner import Call, ScriptRunner
from hookmill.stream.stacks import StackRequests
from hookmill.stream.topology import slot_of
from hookmill.stream.view import open_view
from tests.redis_cluster import Cluster, running_cluster
from tests.stream.toolkit import bodies, ids, settle_all
from tests.support import eventually, message, server_binaries

pytestmark = pytest.mark.since_7_0  # the tests' cluster is made with CLUSTER ADDSLOTSRANGE

PARTITIONS = 3


@pytest.fixture(scope="module", params=list(server_binaries()))
def cluster(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp(f"cluster-{request.param}")
    with running_cluster(server_binaries()[request.param], folder) as running:
        yield running


@pytest.fixture
async def lanes(cluster: Cluster) -> AsyncIterator[list[Client]]:
    """A client for each lane of a stream."""
    async with Client(cluster.url, "t", partitions=PARTITIONS, timeout=2.0) as whole:
        opened = whole.lanes()
        yield opened
        for lane in opened:
            await lane.close()
    for node in cluster.nodes:
        cluster.ask(node, "FLUSHALL")


@asynccontextmanager
async def opened(lane: Client, name: str = "w") -> AsyncIterator[Consumer]:
    group = Consumer(lane, "g", name, dedup_window=3600)
    try:
        await group.open()
        yield group
    finally:
        await group.close()


async def test_each_partition_lies_on_a_node_of_its_own_and_works_there(
    cluster: Cluster, lanes: list[Client]
) -> None:
    assert len({cluster.server_of(lane.partitions[0].stream).port for lane in lanes}) == PARTITIONS
    for lane, body in zip(lanes, bodies(PARTITIONS), strict=True):
        producer = Producer(lane)
        await producer.probe()
        async with opened(lane) as group:
            await producer.append([message(body, id="a"), message(body, id="a")])
            taken = await group.take(10)
            assert (ids(taken.entries), [one for _, one in taken.duplicates]) == (["a"], ["a"])
            await settle_all(group, *taken.entries)


async def test_a_client_of_all_partitions_splits_its_commands_by_node(cluster: Cluster) -> None:
    async with Client(cluster.url, "t", partitions=PARTITIONS) as whole:
        appended = await Producer(whole).append([message(body) for body in bodies(PARTITIONS)])
        assert all(appended)
        lengths = await whole.ask_places(
            [(number, ("XLEN", keys.stream)) for number, keys in enumerate(whole.partitions)]
        )
        assert lengths == [1] * PARTITIONS
    for node in cluster.nodes:
        cluster.ask(node, "FLUSHALL")


async def test_a_program_with_another_number_of_partitions_is_refused(
    cluster: Cluster, lanes: list[Client]
) -> None:
    for lane in lanes:
        await lane.agree_on_partitions()
    async with Client(cluster.url, "t", partitions=6) as other:
        for lane in other.lanes():
            with pytest.raises(PartitionsError, match="made with 3"):
                await lane.agree_on_partitions()
            await lane.close()
    found = await open_view(cluster.url, "t")
    assert found.total == PARTITIONS
    await found.close()


async def test_commands_follow_a_slot_that_has_moved_and_run_once(
    cluster: Cluster, lanes: list[Client]
) -> None:
    lane, body = lanes[0], bodies(PARTITIONS)[0]
    stream = lane.partitions[0].stream
    source, slot = cluster.server_of(stream), slot_of(stream)
    target = next(node for node in cluster.nodes if node is not source)
    producer = Producer(lane)
    async with opened(lane) as group:
        await producer.append([message(body, id=f"m{n}") for n in range(3)])
        waiting = asyncio.create_task(group.wait(20))
        try:
            cluster.begin_to_move(slot, source, target)
            cluster.move_keys(slot, source, target)
        finally:
            cluster.end_move(slot, source, target)
        await producer.append([message(body, id=f"m{n}") for n in range(3, 6)])
        await waiting
        taken = await group.take(10)
        assert ids(taken.entries) == [f"m{n}" for n in range(6)]
        await settle_all(group, *taken.entries)
        assert cluster.ask(target, "XLEN", stream) == 6
    cluster.begin_to_move(slot, target, source)
    cluster.move_keys(slot, target, source)
    cluster.end_move(slot, target, source)


async def test_while_a_slot_moves_nothing_runs_that_would_find_a_part_of_its_keys(
    cluster: Cluster, lanes: list[Client]
) -> None:
    lane, body = lanes[1], bodies(PARTITIONS)[1]
    keys = lane.partitions[0]
    source, slot = cluster.server_of(keys.stream), slot_of(keys.stream)
    target = next(node for node in cluster.nodes if node is not source)
    producer = Producer(lane)
    async with opened(lane) as group:
        await producer.append([message(body, id="a")])
        await settle_all(group, *(await group.take(10)).entries)
        await producer.append([message(body, id="a")])  # a repeat, which waits
        cluster.begin_to_move(slot, source, target)
        try:
            refused = 0
            while cluster.move_keys(slot, source, target, most=1):
                with pytest.raises(StreamUnavailableError, match="moving these keys"):
                    await group.take(10)
                with pytest.raises(StreamUnavailableError, match="moving these keys"):
                    await producer.append([message(body, id="b")])
                refused += 1
            assert refused > 3
        finally:
            cluster.end_move(slot, source, target)
        taken = await group.take(10)
        assert (taken.entries, [one for _, one in taken.duplicates]) == ([], ["a"])
    cluster.begin_to_move(slot, target, source)
    cluster.move_keys(slot, target, source)
    cluster.end_move(slot, target, source)


async def test_while_a_slot_moves_a_script_is_refused_also_where_all_keys_that_it_names_are_there(
    cluster: Cluster, lanes: list[Client]
) -> None:
    lane = lanes[2]
    key = lane.partitions[0].of_group("g").upkeep
    claim = Call(0, [key], [60_000])
    runner = ScriptRunner(lane, drains=True)
    assert await runner.run("claim", claim) == 0
    source, slot = cluster.server_of(key), slot_of(key)
    cluster.begin_to_move(slot, source, next(node for node in cluster.nodes if node is not source))
    try:
        with pytest.raises(StreamUnavailableError, match="moving these keys"):
            await runner.run("claim", claim)
    finally:
        cluster.ask(source, "CLUSTER", "SETSLOT", slot, "STABLE")
        for node in cluster.nodes:
            cluster.ask(node, "CLUSTER", "SETSLOT", slot, "NODE", cluster.id_of(source))
    assert await runner.run("claim", claim) > 0


async def test_a_frozen_node_holds_up_its_own_partitions_only(
    cluster: Cluster, lanes: list[Client]
) -> None:
    some = bodies(PARTITIONS)
    for lane in lanes:
        await lane.agree_on_partitions()
    frozen = cluster.server_of(lanes[0].partitions[0].stream)
    frozen.signal(signal.SIGSTOP)
    try:
        stuck = asyncio.create_task(Producer(lanes[0]).append([message(some[0])]))
        for number in (1, 2):
            assert await Producer(lanes[number]).append([message(some[number])])
        async with opened(lanes[1]) as group:
            await settle_all(group, *(await group.take(10)).entries)
        assert not stuck.done()
    finally:
        frozen.signal(signal.SIGCONT)
    await asyncio.wait([stuck])
    stuck.exception()
    await eventually(cluster.is_well)


async def test_leases_are_renewed_where_the_partition_is(
    cluster: Cluster, lanes: list[Client]
) -> None:
    lane, body = lanes[2], bodies(PARTITIONS)[2]
    async with opened(lane) as group:
        await Producer(lane).append([message(body)])
        (entry,) = (await group.take(10)).entries
        leases = group.leases()
        assert await asyncio.to_thread(leases.renew, [entry.ref]) == []
        leases.close()
        key = group.partitions[0].lease_numbers
        assert cluster.ask(cluster.server_of(key), "HGET", key, "w") == b"1"
        assert await group.settle([Settlement(entry.ref)]) == []


async def test_a_worker_is_asked_for_its_stacks_where_a_partition_can_be_asked(
    cluster: Cluster, lanes: list[Client]
) -> None:
    async with Client(cluster.url, "t", partitions=PARTITIONS) as whole:
        whole.unseen = {0: StreamUnavailableError("away")}
        requests = StackRequests(whole, "g")
        await requests.ask("w")
        async with opened(lanes[1]) as group:
            await lanes[1].execute(0, "PING")
            leases = group.leases()
            await asyncio.to_thread(leases.renew, [])
            await asyncio.to_thread(leases.say_stacks, "thread MainThread")
            leases.close()
        _, said = await requests.read("w")
        assert said is not None
        assert said.text == "thread MainThread"


async def test_what_one_lane_cannot_take_is_refused_for_its_rows_alone(cluster: Cluster) -> None:
    some = bodies(PARTITIONS)
    async with Client(cluster.url, "t", partitions=PARTITIONS, timeout=1.0) as whole:
        producer = LaneProducers(whole, limit=Backlog(PARTITIONS, 0))
        assert await producer.away() == {}
        rows = [row_of(message(body)) for body in some]
        assert all(isinstance(one, str) for one in await producer.append_rows(rows))
        again = await producer.append_rows([rows[0]])
        assert [type(one) for one in again] == [BacklogFullError]
        assert await producer.full(range(PARTITIONS)) == {0, 1, 2}
        frozen = cluster.server_of(whole.partitions[1].stream)
        frozen.signal(signal.SIGSTOP)
        try:
            assert [*await producer.away()] == [1]
            full, away, also_full = await producer.append_rows(rows)
            assert [type(full), type(also_full)] == [BacklogFullError] * 2
            assert type(away) is StreamUnavailableError
        finally:
            frozen.signal(signal.SIGCONT)
        await eventually(cluster.is_well)
        patient = producer.with_timeout(5.0)
        assert await patient.full([1]) == {1}
        await patient.close()
        await producer.close()
    for node in cluster.nodes:
        cluster.ask(node, "FLUSHALL")
