"""A receiver before a real cluster: a node that stands still holds up nobody else's deliveries."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import aiohttp
import pytest

from hookmill.message import Message
from hookmill.stream.keys import Keys
from hookmill.stream.topology import tag_of
from tests.e2e.line import Line, Post
from tests.redis_cluster import Cluster, running_cluster
from tests.support import Program, Server, eventually, server_binaries

PARTITIONS = 3


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with running_cluster(next(iter(server_binaries().values())), tmp_path) as running:
        yield running


class Split:
    """Deliveries by the node that has their partition, found out by sending them."""

    def __init__(self, cluster: Cluster, line: Line) -> None:
        self._cluster = cluster
        self._line = line
        self.of_node: dict[int, list[Post]] = {node.port: [] for node in cluster.nodes}

    async def send(self, count: int) -> None:
        posts = {post.message_id: post for post in map(self._line.order, range(count))}
        assert await self._line.send(posts.values()) == {200: count}
        for number in range(PARTITIONS):
            key = Keys("hookmill", number, tag_of(number, PARTITIONS)).stream
            node = self._cluster.server_of(key)
            rows = self._cluster.ask(node, "XRANGE", key, "-", "+")
            for _, words in rows:
                fields = dict(zip(words[::2], words[1::2], strict=True))
                self.of_node[node.port].append(posts[Message.from_fields(fields).id])
        assert all(self.of_node.values())
        assert sum(map(len, self.of_node.values())) == count

    def sent_again(self, *nodes: Server) -> list[Post]:
        """Deliveries that go to these nodes: with the same bodies, but new tokens."""
        return [
            self._line.order_of(post.message_id, post.body)
            for node in nodes
            for post in self.of_node[node.port]
        ]

    def length(self) -> int:
        return sum(
            self._cluster.ask(self._cluster.server_of(key), "XLEN", key)
            for key in (
                Keys("hookmill", number, tag_of(number, PARTITIONS)).stream
                for number in range(PARTITIONS)
            )
        )


async def readiness(line: Line) -> int:
    async with aiohttp.ClientSession() as session, session.get(f"{line.base}/readyz") as answer:
        return answer.status


async def test_deliveries_of_a_frozen_node_get_503_and_all_others_200(
    cluster: Cluster, start_program: Callable[..., Program], tmp_path: Path
) -> None:
    line = Line(start_program, tmp_path, cluster.url, "hookmill")
    line.env |= {"HOOKMILL_PARTITIONS": str(PARTITIONS), "HOOKMILL_APPEND_TIMEOUT": "1"}
    await asyncio.to_thread(line.receiver)
    split = Split(cluster, line)
    await split.send(30)
    frozen, *others = cluster.nodes
    frozen.signal(signal.SIGSTOP)
    try:
        stuck = asyncio.create_task(line.send(split.sent_again(frozen)))
        well = split.sent_again(*others)
        assert await line.send(well) == {200: len(well)}
        assert await readiness(line) == 200
        assert set(await stuck) == {503}
    finally:
        frozen.signal(signal.SIGCONT)

    async def takes_again() -> bool:
        again = split.sent_again(frozen)
        return await line.send(again) == {200: len(again)}

    await eventually(takes_again)


async def test_what_a_frozen_node_does_not_take_is_spooled_and_drained_when_it_is_back(
    cluster: Cluster, start_program: Callable[..., Program], tmp_path: Path
) -> None:
    line = Line(start_program, tmp_path, cluster.url, "hookmill")
    line.env |= {
        "HOOKMILL_PARTITIONS": str(PARTITIONS),
        "HOOKMILL_APPEND_TIMEOUT": "1",
        "HOOKMILL_SPOOL": "spool",
    }
    receiver = await asyncio.to_thread(line.receiver)
    split = Split(cluster, line)
    await split.send(30)
    frozen, *others = cluster.nodes
    frozen.signal(signal.SIGSTOP)
    try:
        every = split.sent_again(*cluster.nodes)
        assert await line.send(every) == {200: len(every)}
        assert "append failed, spooling" in receiver.log
        well = split.sent_again(*others)
        assert await line.send(well) == {200: len(well)}
    finally:
        frozen.signal(signal.SIGCONT)
    # More, if the frozen node carries out what it had received: those are duplicates.
    await eventually(lambda: split.length() >= 30 + len(every) + len(well))
    assert await asyncio.to_thread(receiver.stop) == 0
