"""The group because of which deliveries are refused is named to the operator, to nobody else."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
import pytest
import redis
import structlog

from hookmill.config.settings import Settings
from hookmill.errors import StreamUnavailableError
from hookmill.stream.facts import Heartbeat
from hookmill.stream.groups import Groups
from hookmill.stream.heartbeats import Heartbeats
from hookmill.stream.producer import Producer
from receiver import pinning
from receiver.pinning import PinningWatch
from tests.receiver.serving import KEYS, StartAt, deliver, ready_text
from tests.support import eventually, message

PINS = "a group pins the stream: it has unfinished work and no worker"


@pytest.fixture
def watch(stream: Producer) -> PinningWatch:
    return PinningWatch(stream.client, 60.0)


@pytest.fixture
async def two_groups(stream: Producer, redis_client: redis.Redis) -> AsyncIterator[None]:
    """`main` has a worker and two unfinished messages, `search` has three and no worker."""
    groups = Groups(stream.client)
    await groups.add("search", "beginning")
    await stream.append([message()])
    await groups.add("main", "now")
    await stream.append([message(), message()])
    await Heartbeats(stream.client, "main").write(Heartbeat(name="w1", lease=60.0))
    yield
    redis_client.flushdb()


async def look(watch: PinningWatch, *, is_full: bool = False) -> list[Any]:
    with structlog.testing.capture_logs() as lines:
        await watch.look(is_full=is_full)
    return lines


@pytest.mark.usefixtures("two_groups")
async def test_a_group_that_pins_the_stream_at_two_looks_is_named_once(
    watch: PinningWatch, stream: Producer
) -> None:
    assert await look(watch) == []
    assert watch.remarks == ""
    (line,) = await look(watch)
    assert (line["event"], line["group"], line["unfinished"]) == (PINS, "search", 3)
    assert await look(watch) == []
    assert watch.remarks == (
        "group search pins the stream: it has unfinished work (3 messages) and no worker\n"
    )

    await Heartbeats(stream.client, "search").write(Heartbeat(name="w2", lease=60.0))
    (line,) = await look(watch)
    assert line["event"] == "no group pins the stream any more"
    assert watch.remarks == ""


@pytest.mark.usefixtures("two_groups")
async def test_where_the_backlog_is_full_the_group_with_the_largest_one_is_named_at_once(
    watch: PinningWatch, stream: Producer
) -> None:
    (line,) = await look(watch, is_full=True)
    assert line["event"] == "backlog full, deliveries get 503"
    assert line["largest_backlog_in_group"] == "search"
    assert (line["unfinished"], line["workers"]) == (3, 0)
    assert watch.remarks == (
        "deliveries get 503 backlog_full: group search has the largest backlog (3 messages); "
        "workers of it that run: 0\n"
    )
    await Groups(stream.client).drop("search")
    (line,) = await look(watch, is_full=True)
    assert (line["largest_backlog_in_group"], line["workers"]) == ("main", 1)
    await look(watch)
    assert watch.remarks == ""


async def test_a_group_that_redis_lost_or_that_has_nothing_to_do_pins_nothing(
    watch: PinningWatch, stream: Producer, redis_client: redis.Redis
) -> None:
    groups = Groups(stream.client)
    for name in "idle", "lost":
        await groups.add(name, "now")
    redis_client.xgroup_destroy(stream.partitions[0].stream, "lost")
    for _ in range(3):
        assert await look(watch) == []
    assert watch.remarks == ""


async def test_a_name_that_would_steer_a_terminal_is_escaped(
    watch: PinningWatch, stream: Producer, redis_client: redis.Redis
) -> None:
    await stream.append([message()])
    redis_client.xgroup_create(stream.partitions[0].stream, "a\x1b[1m", "0")
    (line,) = await look(watch, is_full=True)
    assert line["largest_backlog_in_group"] == "a\\x1b[1m"
    assert "group a\\x1b[1m has" in watch.remarks


async def test_a_refused_delivery_has_the_group_named_at_the_admin_address_and_to_nobody_else(
    start_at: StartAt,
    settings: Callable[..., Settings],
    http: aiohttp.ClientSession,
    stream: Producer,
) -> None:
    await Groups(stream.client).add("search", "beginning")
    running = await start_at(settings(**KEYS, backlog_messages=1))

    async def ready() -> str:
        status, text = await ready_text(running, http)
        assert status == 200
        return text

    assert (await deliver(running, http))[0] == 200
    status, _, body = await deliver(running, http)
    assert status == 503
    assert b"search" not in body
    await eventually(ready_names(ready), what="the group's name in /readyz")
    # A second look may have added that the group pins the stream.
    assert (await ready()).startswith(
        "ready\n"
        "deliveries get 503 backlog_full: group search has the largest backlog (1 messages); "
        "workers of it that run: 0\n"
    )
    async with http.get(f"{running.url}/readyz") as answer:
        assert await answer.text() == "ready\n"


def ready_names(ready: Callable[[], Any]) -> Callable[[], Any]:
    async def names() -> bool:
        return "search" in await ready()

    return names


async def test_it_looks_by_itself_also_after_redis_was_away(
    stream: Producer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pinning, "PERIOD", 0.01)
    monkeypatch.setattr(pinning, "PAUSE", 0.01)
    watch = PinningWatch(stream.client, 60.0)
    await Groups(stream.client).add("search", "beginning")
    await stream.append([message()])
    known = Groups.known
    failed: list[bool] = []

    async def fails_once(self: Groups) -> Any:
        if not failed:
            failed.append(True)
            raise StreamUnavailableError("away")
        return await known(self)

    monkeypatch.setattr(Groups, "known", fails_once)
    watch.start()
    await eventually(lambda: "search" in watch.remarks)
    await watch.stop()
    await watch.stop()
