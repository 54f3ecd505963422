"""A worker process on a real cluster: each partition is a lane, and what happens to one server
touches no message of another.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from hookmill.stream.client import Client
from hookmill.stream.heartbeats import Heartbeats
from hookmill.stream.producer import Producer
from tests.ports import free_port
from tests.redis_cluster import Cluster, running_cluster
from tests.stream.toolkit import bodies
from tests.support import Program, eventually, message, server_binaries
from tests.worker.processes import START
from tests.worker.test_probes import ask

PARTITIONS = 3

HANDLERS = (
    START
    + """
@handlers.on("quick")
async def quick(delivery):
    say(f"ran {delivery.id}.")

@handlers.on("slow")
async def slow(delivery):
    say(f"began {delivery.id}.")
    await asyncio.sleep(float(os.environ.get("SLOW", "600")))
    say(f"ran {delivery.id}.")
"""
)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with running_cluster(server_binaries()["valkey"], tmp_path_factory.mktemp("nodes")) as running:
        yield running


class Lanes:
    """What goes to each lane of the workers' stream, and what is there."""

    def __init__(self, cluster: Cluster, start_program: Callable[..., Program], folder: Path):
        self._cluster = cluster
        self._start_program = start_program
        self._clients = Client(cluster.url, "hookmill", partitions=PARTITIONS).lanes()
        self._producers = [Producer(client) for client in self._clients]
        streams = [client.partitions[0].stream for client in self._clients]
        self.nodes = [*map(cluster.server_of, streams)]
        self._bodies = bodies(PARTITIONS)
        (folder / "app.py").write_text(HANDLERS)

    def start(self, **env: str) -> Program:
        given = {"REDIS_URL": self._cluster.url, "HOOKMILL_PARTITIONS": str(PARTITIONS)}
        return self._start_program("worker", "app:handlers", env=given | env)

    async def send(self, lane: int, message_id: str, of_type: str = "quick") -> None:
        sent = message(self._bodies[lane], id=message_id, type=of_type)
        await self._producers[lane].append([sent])

    def held(self, lane: int) -> int:
        """How many messages of a lane some worker holds."""
        keys = self._clients[lane].partitions[0]
        both = keys.stream, keys.of_group("main").again
        return sum(
            int(self._cluster.ask(self.nodes[lane], "XPENDING", key, "main")[0]) for key in both
        )

    async def troubles_told_in(self, lane: int) -> dict[str, str]:
        """What the one worker's heartbeat in a lane says of others."""
        (beat,) = await Heartbeats(self._clients[lane], "main").read()
        return beat.troubles

    async def close(self) -> None:
        for client in self._clients:
            await client.close()


@pytest.fixture
async def lanes(
    cluster: Cluster, start_program: Callable[..., Program], tmp_path: Path
) -> AsyncIterator[Lanes]:
    opened = Lanes(cluster, start_program, tmp_path)
    yield opened
    await opened.close()
    for node in cluster.nodes:
        cluster.ask(node, "FLUSHALL")


async def ran(worker: Program, *message_ids: str) -> None:
    await eventually(lambda: all(f"ran {one}." in worker.log for one in message_ids))


async def test_while_a_server_stands_still_the_messages_of_the_others_go_on(
    cluster: Cluster, lanes: Lanes
) -> None:
    port = free_port()
    worker = lanes.start(
        HOOKMILL_CONCURRENCY="1", HOOKMILL_LEASE="4", HOOKMILL_ADMIN_PORT=str(port)
    )
    sent = [f"first{lane}" for lane in range(PARTITIONS)]
    for lane, message_id in enumerate(sent):
        await lanes.send(lane, message_id)
    await ran(worker, *sent)
    await lanes.send(0, "before")
    lanes.nodes[0].signal(signal.SIGSTOP)
    sent.append("before")
    try:
        for number in range(10):
            for lane in (1, 2):  # each is sent only when the one before has run
                sent.append(f"lane{lane}-{number}")
                await lanes.send(lane, sent[-1])
                await ran(worker, sent[-1])
        await eventually(lambda: "cannot take" in worker.log)
        await eventually(lambda: lanes.troubles_told_in(1))
        status, text = await asyncio.to_thread(ask, port, "/readyz")
        assert (status, "not from partition 0: messages cannot be taken" in text) == (200, True)
        _, text = await asyncio.to_thread(ask, port, "/metrics")
        assert 'hookmill_worker_partition_away{group="main",partition="0"} 1.0' in text
        await lanes.send(1, "later")
        await ran(worker, "later")
        await eventually(lambda: not lanes.held(1) and not lanes.held(2))
    finally:
        lanes.nodes[0].signal(signal.SIGCONT)
    await eventually(cluster.is_well)
    await lanes.send(0, "after")
    await ran(worker, *sent, "later", "after")
    await eventually(lambda: not any(map(lanes.held, range(PARTITIONS))))
    assert worker.stop() == 0
    assert all(worker.log.count(f"ran {one}.") == 1 for one in (*sent, "later", "after"))


async def test_what_a_killed_worker_held_is_taken_over_in_every_lane(lanes: Lanes) -> None:
    first = lanes.start(HOOKMILL_LEASE="1.5")
    for lane in range(PARTITIONS):
        await lanes.send(lane, f"slow{lane}", "slow")
    await eventually(lambda: all(f"began slow{lane}." in first.log for lane in range(PARTITIONS)))
    first.kill()
    second = lanes.start(HOOKMILL_LEASE="1.5", SLOW="0")
    await ran(second, *(f"slow{lane}" for lane in range(PARTITIONS)))
    await eventually(lambda: not any(map(lanes.held, range(PARTITIONS))))
    assert second.stop() == 0


async def test_a_worker_stops_although_a_server_stands_still(
    cluster: Cluster, lanes: Lanes
) -> None:
    worker = lanes.start(HOOKMILL_SHUTDOWN="1", HOOKMILL_LEASE="3600")
    for lane in range(PARTITIONS):
        await lanes.send(lane, f"slow{lane}", "slow")
    await eventually(lambda: all(f"began slow{lane}." in worker.log for lane in range(PARTITIONS)))
    lanes.nodes[0].signal(signal.SIGSTOP)
    try:
        worker.signal(signal.SIGTERM)
        await asyncio.to_thread(worker.wait)
        assert not lanes.held(1)
        assert not lanes.held(2)
    finally:
        lanes.nodes[0].signal(signal.SIGCONT)
    await eventually(cluster.is_well)
    assert lanes.held(0) == 1
