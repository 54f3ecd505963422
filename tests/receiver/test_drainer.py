"""The spool and its drainer in a whole receiver, and the drainer by itself."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import redis

from hookmill.config.settings import Settings
from hookmill.errors import StreamUnavailableError
from hookmill.message import PACKED_VERSION, Message
from hookmill.stream.arrival import Row, row_of
from hookmill.stream.facts import Backlog
from hookmill.stream.producer import Producer
from receiver.drainer import Drainer
from receiver.spool import Spool
from tests.receiver.serving import (
    HELLO,
    KEYS,
    OwnServer,
    Running,
    StartAt,
    StartReceiver,
    Stored,
    deliver,
    ends,
    readiness,
    ready_text,
    settings_for,
    status_of,
    tracebacks,
)
from tests.support import (
    Server,
    Stream,
    eventually,
    message,
    signed_headers,
    written_in_version_1,
)

pytestmark = pytest.mark.usefixtures("lines")


async def test_with_a_spool_deliveries_are_accepted_while_redis_is_away_and_follow_in_order(
    own_server: OwnServer,
    start_at: StartAt,
    http: aiohttp.ClientSession,
    tmp_path: Path,
    lines: list[dict[str, Any]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    server = own_server()
    running = await start_at(settings_for(server, spool=tmp_path / "spool.db"))
    assert await ready_text(running, http) == (200, "ready\n")
    server.kill()
    assert await ready_text(running, http) == (
        200,
        "ready, deliveries go to the spool: Redis takes no writes\n",
    )
    for number in range(5):
        assert await deliver(running, http, b"%d" % number) == (200, None, b"")
    spool = running.receiver._spool
    assert spool is not None
    assert await spool.count() == 5
    server.start()
    await eventually(lambda: not spool.is_active)
    assert await deliver(running, http, b"5") == (200, None, b"")
    assert await ready_text(running, http) == (200, "ready\n")
    with redis.Redis.from_url(server.url) as client:
        found: Any = client.xrange("hookmill:{0}:stream")
    assert [fields[b"body"] for _, fields in found] == [b"%d" % number for number in range(6)]
    # The line comes after the spool is inactive.
    await eventually(lambda: "spool drained" in [line["event"] for line in lines])
    events = [line["event"] for line in lines if line["event"] != "accepted"]
    # Each once, however many deliveries there were.
    assert sorted(set(events)) == sorted(events)
    assert {"append failed, spooling", "ready, spooling", "spool drained"} <= set(events)
    assert tracebacks(caplog) == []


async def test_behind_what_is_spooled_everything_is_spooled_although_redis_is_back(
    start: StartReceiver, http: aiohttp.ClientSession, tmp_path: Path, stored: Stored
) -> None:
    running = await start(spool=tmp_path / "spool.db")
    spool, drainer = running.receiver._spool, running.receiver._drainer
    assert spool is not None
    assert drainer is not None
    await drainer.stop()
    await spool.put([row_of(message(b"first"))])
    assert (await deliver(running, http, b"second"))[0] == 200
    assert await ready_text(running, http) == (
        200,
        "ready, deliveries go to the spool until it is drained\n",
    )
    assert stored() == []
    drainer.start()
    await eventually(lambda: not spool.is_active)
    assert [entry[b"body"] for entry in stored()] == [b"first", b"second"]


async def test_a_full_spool_is_503_and_unready_until_it_is_drained(
    own_server: OwnServer, start_at: StartAt, http: aiohttp.ClientSession, tmp_path: Path
) -> None:
    server = own_server()
    mib = 1024 * 1024
    settings = settings_for(server, spool=tmp_path / "spool.db", spool_limit=mib)
    running = await start_at(settings)
    server.kill()
    assert (await deliver(running, http, b"x" * (mib // 2)))[0] == 200
    status, retry_after, answer = await deliver(running, http, b"x" * (mib // 2))
    assert (status, retry_after) == (503, "5")
    assert b'"spool"' in answer
    await until_full(running, http)
    assert await readiness(running, http) == 503
    server.start()
    await eventually(lambda: is_ready(running, http))
    assert (await deliver(running, http, b"x" * (mib // 2)))[0] == 200


async def until_full(running: Running, http: aiohttp.ClientSession) -> None:
    for size in (50_000, 5_000, 500):
        while (await deliver(running, http, b"x" * size))[0] == 200:
            pass


async def is_ready(running: Running, http: aiohttp.ClientSession) -> bool:
    return await readiness(running, http) == 200


async def test_behind_a_spool_that_a_full_backlog_holds_up_nothing_more_is_spooled(
    start_at: StartAt,
    settings: Callable[..., Settings],
    http: aiohttp.ClientSession,
    tmp_path: Path,
    redis_client: redis.Redis,
    prefix: str,
) -> None:
    running = await start_at(settings(**KEYS, backlog_messages=1, spool=tmp_path / "spool.db"))
    assert (await deliver(running, http))[0] == 200
    spool = running.receiver._spool
    assert spool is not None
    await spool.put([row_of(message())])
    await eventually(lambda: spool.full)
    status, _, body = await deliver(running, http)
    assert (status, b"backlog_full" in body) == (503, True)
    assert await spool.count() == 1
    redis_client.delete(f"{prefix}:{{0}}:stream")  # as if all were handled
    await eventually(lambda: not spool.is_active)


async def test_a_token_used_before_redis_went_away_is_refused_behind_the_spool(
    own_server: OwnServer,
    start_at: StartAt,
    http: aiohttp.ClientSession,
    tmp_path: Path,
    lines: list[dict[str, Any]],
) -> None:
    server = own_server("--appendonly", "yes", "--appendfsync", "always", "--save", "")
    running = await start_at(settings_for(server, spool=tmp_path / "spool.db"))
    headers = signed_headers(running.sources["qstash"].scheme, HELLO, "/qstash")

    async def post(message_id: str) -> int:
        given = headers | {"Upstash-Message-Id": message_id}
        return await status_of(http.post(f"{running.url}/qstash", data=HELLO, headers=given))

    assert await post("msg_1") == 200
    server.kill()
    assert [await post(name) for name in ("msg_2", "msg_1")] == [200, 200]
    server.start()
    spool = running.receiver._spool
    assert spool is not None
    await eventually(lambda: not spool.is_active)
    with redis.Redis.from_url(server.url) as client:
        found: Any = client.xrange("hookmill:{0}:stream")
    assert {fields[b"id"] for _, fields in found} == {b"msg_1"}
    refused = [line for line in lines if line["event"] == "refused behind the spool"]
    assert [(line["code"], line["id"]) for line in refused] == [("token_reused", "msg_2")]


# --- the drainer by itself ---


async def test_what_an_older_release_spooled_is_drained_before_what_this_one_adds(
    server: Server, prefix: str, tmp_path: Path, redis_client: redis.Redis
) -> None:
    stream, spool = Stream(server.url, prefix), Spool(tmp_path / "spool", 2**30)
    await spool.open()
    sent = [message(id=f"m{number}", type="order.paid", key="7") for number in range(4)]
    await spool.put([Row(written_in_version_1(one), b"t" * 16, 2**32, 60_000) for one in sent[:1]])
    await spool.put([Row(written_in_version_1(one)) for one in sent[1:2]])
    await spool.put([row_of(sent[2]), row_of(sent[3], PACKED_VERSION)])  # for older ones to drain

    await Drainer(spool, stream, 2.0)._drain()

    assert await spool.count() == 0
    entries: Any = redis_client.xrange(stream.partitions[0].stream)
    assert [Message.from_fields(fields) for _, fields in entries] == sent
    assert [fields[b"version"] for _, fields in entries] == [b"1", b"1", b"2", b"2"]
    await spool.close()
    await stream.close()


async def test_a_full_partition_does_not_have_the_others_appended_again_and_again(
    server: Server, prefix: str, tmp_path: Path, redis_client: redis.Redis
) -> None:
    stream = Stream(server.url, prefix, partitions=2, limit=Backlog(2, 0))
    spool = Spool(tmp_path / "spool", 2**30, partitions=2)
    await spool.open()
    sent = [row_of(message(b'{"n":%d}' % number, id=f"m{number}")) for number in range(40)]
    by_partition = [[one for one in sent if one.partition(2) == number] for number in range(2)]
    await stream.append_rows(by_partition[0][:1])  # this one is full now
    await spool.put([*by_partition[0][1:4], *by_partition[1][:1]])
    drainer = Drainer(spool, stream, 2.0)
    for _ in range(5):
        await drainer._drain()
    assert redis_client.xlen(stream.partitions[1].stream) == 1
    for left in (3, 2, 1):
        assert await spool.count() == left
        redis_client.delete(stream.partitions[0].stream, stream.partitions[0].backlog)
        await drainer._drain()
        assert redis_client.xlen(stream.partitions[0].stream) == 1
    assert redis_client.xlen(stream.partitions[1].stream) == 1
    assert await spool.count() == 0
    await spool.close()
    await stream.close()


async def test_stopping_ends_a_drainer_whose_first_cancellation_is_swallowed(
    stream: Producer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, swallowed = asyncio.Event(), 0

    async def probe() -> None:
        """As redis-py in Python 3.11 does when the connection is made just as it is cancelled."""
        nonlocal swallowed
        begun.set()
        while not swallowed:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                swallowed += 1
        raise StreamUnavailableError("away")

    monkeypatch.setattr(stream, "probe", probe)
    spool = Spool(tmp_path / "spool", 2**30)
    await spool.open()
    await spool.put([row_of(message())])
    drainer = Drainer(spool, stream, 60.0)
    drainer.start()
    await begun.wait()
    assert await ends(drainer.stop())
    assert swallowed == 1
    assert await spool.count() == 1
    await spool.close()


async def test_what_was_spooled_is_drained_by_whichever_drainer_comes_next(
    stream: Producer, tmp_path: Path, redis_client: redis.Redis
) -> None:
    spools = [Spool(tmp_path / "spool", 2**30) for _ in range(2)]
    for spool in spools:
        await spool.open()
    await spools[0].put([row_of(message())])
    drainer = Drainer(spools[1], stream, 2.0)
    drainer.start()
    await eventually(lambda: not spools[0].is_active)
    await drainer.stop()
    assert redis_client.xlen(stream.partitions[0].stream) == 1
    for spool in spools:
        await spool.close()


async def test_trouble_is_logged_once_until_it_is_over(
    stream: Producer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lines: list[dict[str, Any]]
) -> None:
    spool = Spool(tmp_path / "spool", 2**30)
    await spool.open()
    await spool.put([row_of(message())])
    drainer = Drainer(spool, stream, 2.0)
    with monkeypatch.context() as patch:
        patch.setattr(stream, "probe", _unavailable)
        for _ in range(3):
            await drainer._drain()
    await drainer._drain()
    assert [line["event"] for line in lines] == ["the spool cannot be drained", "spool drained"]
    await spool.close()


async def _unavailable() -> None:
    raise StreamUnavailableError("away")
