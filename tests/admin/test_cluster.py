"""An operator's view of a real cluster: every node counts once, and one that stands still hides
nothing of the others.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

import aiohttp
import pytest

from hookmill.admin import audit, checkup, dead_letters, groups, messages, pauses, status
from hookmill.admin.filters import Selection
from hookmill.admin.opening import open_stream
from hookmill.admin.rates import STEPS, RateReader, Rates
from hookmill.config.settings import Settings
from hookmill.console.app import serving
from hookmill.errors import StreamUnavailableError
from hookmill.stream.client import Client
from hookmill.stream.consumer import Consumer
from hookmill.stream.entries import Settlement
from hookmill.stream.facts import CAN_PAUSE, Heartbeat, Pause
from hookmill.stream.heartbeats import Heartbeats
from hookmill.stream.lane_producers import LaneProducers
from hookmill.stream.rates import HOUR
from tests.cli.running import hookmill
from tests.given_up import as_dead_letter
from tests.redis_cluster import Cluster, running_cluster
from tests.stream.toolkit import again, bodies
from tests.support import Server, message, server_binaries

PARTITIONS = 6
EACH = ("dead", "late", "held", "wait")
"""What is put into each partition: a message that ends in each of these states."""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    binary = next(iter(server_binaries().values()))
    with running_cluster(binary, tmp_path_factory.mktemp("cluster")) as running:
        yield running


@pytest.fixture
def operator(cluster: Cluster) -> Settings:
    return Settings(redis_url=cluster.url, prefix="t", partitions=PARTITIONS)


@pytest.fixture
async def filled(cluster: Cluster, operator: Settings) -> AsyncIterator[None]:
    async with Client(cluster.url, "t", partitions=PARTITIONS) as whole:
        producers = LaneProducers(whole)
        for number, (lane, body) in enumerate(zip(whole.lanes(), bodies(PARTITIONS), strict=True)):
            await fill(lane, producers, body, number)
            await lane.close()
        for producer in producers.lanes:
            await producer.client.close()
    yield
    for node in cluster.nodes:
        cluster.ask(node, "FLUSHALL")


async def fill(lane: Client, producers: LaneProducers, body: bytes, number: int) -> None:
    group = Consumer(lane, "main", "w1", dedup_window=3600)
    await group.open()
    appended = await producers.append([message(body, id=f"{name}{number}") for name in EACH[:3]])
    assert all(appended)
    taken = {entry.fields[b"id"][:4]: entry for entry in (await group.take(10)).entries}
    late = taken[b"late"]
    waits = Settlement(late.ref, (again(late, delay_ms=600_000),))
    assert await group.settle([as_dead_letter(taken[b"dead"]), waits]) == []
    await producers.append([message(body, id=f"wait{number}")])
    beat = Heartbeat(name="w1", lease=600, concurrency=5, can=(CAN_PAUSE,))
    await Heartbeats(lane, "main").write(beat)
    await group.close()


@contextmanager
def frozen(server: Server) -> Iterator[None]:
    server.signal(signal.SIGSTOP)
    try:
        yield
    finally:
        server.signal(signal.SIGCONT)


def of_node(cluster: Cluster, node: Server) -> list[int]:
    """The partitions that lie on a node."""
    whole = Client(cluster.url, "t", partitions=PARTITIONS)
    return [n for n, keys in enumerate(whole.partitions) if cluster.server_of(keys.stream) is node]


async def find(operator: Settings, message_id: str) -> list[str]:
    async with messages.opened(operator) as looking:
        return [match.message_id for match in (await looking.find(message_id)).matches]


async def read_rates(operator: Settings) -> Rates:
    async with await open_stream(operator) as client:
        return await RateReader().read(client, HOUR)


async def console_pages(operator: Settings, *paths: str) -> list[str]:
    ours = operator.model_copy(update={"console_port": 0})
    async with serving(ours) as (port, _), aiohttp.ClientSession() as http:
        answers = [await http.get(f"http://127.0.0.1:{port}{path}") for path in paths]
        assert [answer.status for answer in answers] == [200] * len(paths)
        return [await answer.text() for answer in answers]


async def listed(operator: Settings) -> list[str]:
    """The message IDs of the dead letters."""
    async with dead_letters.opened(operator) as letters:
        found = await dead_letters.page(letters, newest_first=False)
        return [letter.fields[b"id"].decode() for letter in found.rows]


@pytest.mark.usefixtures("filled")
async def test_the_status_adds_up_the_partitions_and_counts_each_node_once(
    cluster: Cluster, operator: Settings
) -> None:
    for node in cluster.nodes:
        cluster.ask(node, "CONFIG", "SET", "maxmemory", 1_000_000_000)

    seen = await status.look(operator)

    for node in cluster.nodes:
        cluster.ask(node, "CONFIG", "SET", "maxmemory", 0)
    (group,) = seen.groups
    assert (seen.partitions, seen.length, seen.maxmemory) == (6, 24, 3_000_000_000)
    assert (group.waiting, group.held, group.delayed, group.dead) == (6, 6, 6, 6)
    assert (group.workers(60), seen.unseen) == (1, {})


@pytest.mark.usefixtures("filled")
async def test_what_an_operator_does_reaches_all_partitions(operator: Settings) -> None:
    assert await listed(operator) == [f"dead{n}" for n in range(PARTITIONS)]
    for name in EACH:
        async with messages.opened(operator) as looking:
            (match,) = (await looking.find(f"{name}4")).matches
            assert match.entry.endswith("@4")
            assert (await looking.story(match)).groups
    async with dead_letters.opened(operator) as letters:
        some = await dead_letters.select(letters, Selection(limit=2))
        assert [tally.done async for tally in some.replay()][-1] == 2
        rest = await dead_letters.select(letters, Selection())
        assert [tally.done async for tally in rest.drop()][-1] == 4
    await groups.add(operator, "second", "beginning")
    (_, second) = (await groups.list_all(operator))[1]
    assert second.facts is not None
    assert second.facts.waiting == 24
    assert await groups.drop(operator, "second", lambda _: True)
    await pauses.pause(operator, Pause(kind="source", value="qstash"))
    assert [one.value for one in (await pauses.listed(operator)).pauses] == ["qstash"]
    _ = [step async for step in pauses.resume(operator, Pause(kind="source", value="qstash"))]
    assert (await pauses.listed(operator)).pauses == []
    done = [one.action async for one in audit.listed(operator)]
    assert done == ["resume", "pause", "group drop", "group add"]


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize("place", ["first", "other"])
async def test_a_node_that_stands_still_hides_nothing_of_the_others(
    cluster: Cluster, operator: Settings, place: str
) -> None:
    first = cluster.server_of(Client(cluster.url, "t", partitions=PARTITIONS).partitions[0].stream)
    node = next(each for each in cluster.nodes if (each is first) == (place == "first"))
    missing = of_node(cluster, node)
    others = [number for number in range(PARTITIONS) if number not in missing]
    with frozen(node):
        seen = await status.look(operator)
        dead = await listed(operator)
        found = await find(operator, f"wait{others[0]}")
        with pytest.raises(messages.NoSuchMessageError, match=rf"partition {missing[0]} of"):
            await find(operator, f"wait{missing[0]}")
        with pytest.raises(StreamUnavailableError, match="nothing was done"):
            await groups.add(operator, "second", "beginning")
        findings = await checkup.check(operator)
        rates = await read_rates(operator)
        env = {"REDIS_URL": cluster.url, "HOOKMILL_PREFIX": "t", "HOOKMILL_PARTITIONS": "6"}
        shown = await asyncio.to_thread(hookmill, "status", env=env)
        pages = await console_pages(operator, "/", "/dead")

    (group,) = seen.groups
    assert list(seen.unseen) == missing
    assert all(f"127.0.0.1:{node.port} cannot be asked" in why for why in seen.unseen.values())
    assert (seen.length, group.waiting, group.dead, group.workers(60)) == (16, 4, 4, 1)
    assert (shown.returncode, shown.stderr) == (1, "")
    assert all(f"{why}; it is missing below" in shown.stdout for why in seen.unseen.values())
    for text in pages:
        assert all(f"{why}. What it has is missing here" in text for why in seen.unseen.values())
    assert len(rates.counts) == STEPS[HOUR.name]
    assert dead == [f"dead{number}" for number in others]
    assert found == [f"wait{others[0]}"]
    assert set(seen.unseen.values()) <= {finding.what for finding in findings}
    _, after = await groups.list_all(operator)
    assert [group.known.name for group in after] == ["main"]


@pytest.mark.usefixtures("filled")
async def test_the_number_of_partitions_is_found_where_its_own_node_stands_still(
    cluster: Cluster, operator: Settings
) -> None:
    other = operator.model_copy(update={"partitions": 1})
    assert (await status.look(other)).partitions == PARTITIONS
    node = cluster.server_of("t:partitions")
    with frozen(node):
        assert (await status.look(operator)).partitions == PARTITIONS
        for each in cluster.nodes:
            copies = cluster.ask(each, "KEYS", "t:{*}:partitions") if each is not node else []
            for copy in copies:
                cluster.ask(each, "DEL", copy)
        with pytest.raises(StreamUnavailableError, match="set HOOKMILL_PARTITIONS"):
            await status.look(operator)


@pytest.mark.usefixtures("filled")
async def test_the_check_names_the_nodes_that_are_set_badly(
    cluster: Cluster, operator: Settings
) -> None:
    first, second, _ = cluster.nodes
    cluster.ask(first, "CONFIG", "SET", "cluster-require-full-coverage", "yes")
    cluster.ask(second, "CONFIG", "SET", "maxmemory-policy", "allkeys-lru")

    said = [finding.what for finding in await checkup.check(operator)]

    cluster.ask(first, "CONFIG", "SET", "cluster-require-full-coverage", "no")
    cluster.ask(second, "CONFIG", "SET", "maxmemory-policy", "noeviction")
    assert f"on 1 node (127.0.0.1:{first.port}): cluster-require-full-coverage is yes" in said
    assert f"on 1 node (127.0.0.1:{second.port}): maxmemory-policy is allkeys-lru" in said
    assert "on every node: no replica is connected" in said
    assert not any("unevenly" in text or "no partition" in text for text in said)
