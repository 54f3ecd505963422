"""A delivery's way through a whole receiver: what is stored, refused and logged."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import redis
from msgspec.structs import replace

from hookmill.config.settings import Settings
from hookmill.config.sources import sources_of
from hookmill.message import Message
from hookmill.stream.producer import Producer
from tests.receiver.serving import (
    HELLO,
    KEYS,
    LIMIT,
    Connect,
    StartAt,
    StartReceiver,
    Stored,
    deliver,
    delivery,
    paused,
)
from tests.support import (
    eventually,
    signed_headers,
)

pytestmark = pytest.mark.usefixtures("lines")


async def test_a_delivery_is_stored_before_it_is_answered_with_200(
    start: StartReceiver, http: aiohttp.ClientSession, redis_client: redis.Redis, stored: Stored
) -> None:
    running = await start(append_timeout=10)
    headers = signed_headers(running.sources["qstash"].scheme, HELLO, "/qstash")
    with paused(redis_client):
        answer = asyncio.create_task(
            http.post(f"{running.url}/qstash", data=HELLO, headers=headers)
        )
        await eventually(lambda: running.receiver._appenders[0]._writing)
        assert not answer.done()
        assert stored() == []
    async with await answer as response:
        assert response.status == 200
        assert await response.read() == b""
    (entry,) = stored()
    assert entry[b"body"] == HELLO


async def test_key_and_id_are_stored_as_the_source_is_set(
    start: StartReceiver, http: aiohttp.ClientSession, stored: Stored
) -> None:
    running = await start(sources={"marble": {"ordered_by": "data.id"}, "qstash": {"id": "body"}})
    body = b'{"event":"post.updated","data":{"id":"post_1"}}'
    for name in ("marble", "qstash", "qstash"):
        headers = signed_headers(running.sources[name].scheme, body, f"/{name}")
        headers["Upstash-Message-Id"] = f"msg_{len(stored())}"
        async with http.post(f"{running.url}/{name}", data=body, headers=headers) as response:
            assert response.status == 200
    marble, first, second = stored()
    assert (marble[b"id"], marble[b"key"]) == (b"msg_0", b"post_1")
    assert b"key" not in first
    assert first[b"id"].startswith(b"hm_")
    assert first[b"digest"] == second[b"digest"]


async def test_two_deliveries_without_an_id_are_two_messages_although_their_bytes_are_the_same(
    start: StartReceiver, http: aiohttp.ClientSession, stored: Stored
) -> None:
    running = await start()
    body = b'{"event":"post.updated"}'  # Marble's older format has no ID in the body or the headers
    headers = signed_headers(running.sources["marble"].scheme, body, "/marble")
    for _ in range(2):
        async with http.post(f"{running.url}/marble", data=body, headers=headers) as response:
            assert response.status == 200
    first, second = stored()
    assert first[b"body"] == second[b"body"] == body
    assert first[b"digest"] != second[b"digest"]


@pytest.mark.parametrize(
    "body",
    [
        HELLO,
        b"",
        b"\x00" * 32,
        b"\xff\xfe\x00 not UTF-8 \xc3\x28",
        b"not JSON",
        b'{ "b": 1,\r\n  "a": 1.0 }\n',
        bytes(range(256)) * (LIMIT // 256),  # exactly the limit
    ],
    ids=["object", "empty", "NULs", "not UTF-8", "not JSON", "spaces kept", "limit"],
)
@pytest.mark.parametrize("name", ["qstash", "marble"])
async def test_the_raw_bytes_of_any_body_are_stored_unchanged(
    start: StartReceiver,
    http: aiohttp.ClientSession,
    stored: Stored,
    name: str,
    body: bytes,
) -> None:
    running = await start()
    headers = signed_headers(running.sources[name].scheme, body, f"/{name}")
    async with http.post(f"{running.url}/{name}", data=body, headers=headers) as response:
        assert response.status == 200
    (entry,) = stored()
    assert entry[b"body"] == body
    assert Message.from_fields(entry).source == name


async def test_headers_are_stored_as_they_came_credentials_are_not(
    start: StartReceiver, connect: Connect, stored: Stored
) -> None:
    running = await start()
    wire = await connect(running)
    extra = (
        b"Upstash-Message-Id: msg_1",
        b"X-Note: caf\xe9 \xc3\xa9",
        b"X-Twice: 1",
        b"x-twice: 2",
        b"Authorization: Bearer bearer-credential",
        b"Cookie: session=cookie-credential",
        b"Proxy-Authorization: Basic proxy-credential",
    )
    await wire.send(delivery(running.sources["qstash"], extra=extra))
    assert (await wire.answer()).status == 200
    (entry,) = stored()
    assert entry[b"id"] == b"msg_1"
    rows = entry[b"headers"].split(b"\r\n")
    assert [row for row in rows if not row.startswith(b"Upstash-Signature: ")] == [
        b"Upstash-Message-Id: msg_1",
        b"X-Note: caf\xe9 \xc3\xa9",
        b"X-Twice: 1",
        b"x-twice: 2",
    ]
    assert b"credential" not in b"".join(entry.values())


async def test_an_accepted_delivery_is_one_log_line_with_its_id_source_and_type(
    start: StartReceiver, http: aiohttp.ClientSession, lines: list[dict[str, Any]]
) -> None:
    running = await start()
    body = b'{"event": "post.published", "data": {}}'
    headers = signed_headers(running.sources["qstash"].scheme, body, "/qstash")
    headers["Upstash-Message-Id"] = "msg_7"
    async with http.post(f"{running.url}/qstash", data=body, headers=headers) as response:
        assert response.status == 200
    assert lines == [
        {
            "event": "accepted",
            "log_level": "info",
            "id": "msg_7",
            "source": "qstash",
            "type": "post.published",
            "bytes": len(body),
        }
    ]


# --- what goes wrong on our side ---


@pytest.mark.parametrize(
    ("extra", "before"), [((), ()), ((b"Expect: 100-continue",), (100,))], ids=["", "after 100"]
)
async def test_a_bug_of_our_own_is_a_500_with_its_traceback_and_affects_no_other_delivery(
    settings: Callable[..., Settings],
    stream: Producer,
    start_at: StartAt,
    connect: Connect,
    stored: Stored,
    caplog: pytest.LogCaptureFixture,
    extra: tuple[bytes, ...],
    before: tuple[int, ...],
) -> None:
    def stumble(headers: object, body: bytes) -> Any:
        raise LookupError("a bug")

    configured = settings(**KEYS)
    qstash, marble = sources_of(configured)
    running = await start_at(configured, stream, [replace(qstash, identify=stumble), marble])
    wire = await connect(running)
    await wire.send(delivery(qstash, extra=extra))
    for status in (*before, 500):
        answer = await wire.answer()
        assert answer.status == status
    assert b"LookupError" not in answer.body
    (record,) = caplog.records
    assert record.exc_info
    assert isinstance(record.exc_info[1], LookupError)
    assert stored() == []
    other = await connect(running)
    await other.send(delivery(marble))
    assert (await other.answer()).status == 200


async def test_a_full_backlog_is_503_at_once_and_is_not_spooled(
    start_at: StartAt,
    settings: Callable[..., Settings],
    http: aiohttp.ClientSession,
    tmp_path: Path,
    stored: Stored,
) -> None:
    running = await start_at(
        settings(**KEYS, backlog_messages=2, spool=tmp_path / "spool.db", retry_after=9)
    )
    assert [(await deliver(running, http))[0] for _ in range(2)] == [200, 200]
    status, retry_after, body = await deliver(running, http)
    assert (status, retry_after) == (503, "9")
    assert body == (
        b'{"error":"backlog_full","detail":"too many messages are unfinished; send it again later"}'
    )
    spool = running.receiver._spool
    assert spool is not None
    assert not spool.is_active
    assert len(stored()) == 2


# --- signed tokens ---


async def test_a_copied_token_is_refused_with_another_id_and_accepted_with_its_own(
    start: StartReceiver, http: aiohttp.ClientSession, stored: Stored
) -> None:
    running = await start()
    headers = signed_headers(running.sources["qstash"].scheme, HELLO, "/qstash")
    answers = []
    for message_id in ("msg_1", "msg_2", "msg_1", None):
        given = headers | ({"Upstash-Message-Id": message_id} if message_id else {})
        async with http.post(f"{running.url}/qstash", data=HELLO, headers=given) as response:
            answers.append((response.status, b"token_reused" in await response.read()))
    assert answers == [(200, False), (401, True), (200, False), (401, True)]
    assert {entry[b"id"] for entry in stored()} == {b"msg_1"}
