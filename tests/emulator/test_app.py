"""The emulator's API over real sockets: its answers, and what no client can do."""

from __future__ import annotations

import asyncio
import gzip
from typing import Any

import aiohttp
import pytest

from hookmill.emulator.filters import Filter
from tests.emulator.running import (
    CALLER,
    MAX_BODY,
    NOWHERE,
    TOKEN,
    Emulator,
    Subscriber,
)
from tests.support import eventually


async def send_raw(emulator: Emulator, raw: bytes) -> bytes:
    """Send bytes, and return all that comes until the other side closes."""
    host, _, port = emulator.url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(raw)
        await writer.drain()
        async with asyncio.timeout(20):
            return await reader.read()
    finally:
        writer.close()


def raw_publish(target: str, *headers: str, body: bytes = b"x") -> bytes:
    lines = [
        f"POST {target} HTTP/1.1",
        "Host: localhost",
        f"Content-Length: {len(body)}",
        "Connection: close",
        *headers,
    ]
    return "\r\n".join(lines).encode("utf-8", "surrogateescape") + b"\r\n\r\n" + body


async def test_the_front_page_says_what_this_is(emulator: Emulator) -> None:
    async with emulator.asked("GET", "/", token=None) as response:
        assert response.status == 200
        assert "development tool" in await response.text()


@pytest.mark.parametrize(
    "rest",
    [
        "/a/../b//c/./d",
        "/a%2Fb%2e%2E%c3%bc?x=%2F&y=a+b&&z",
        "/x?next=https://other.example/?a={b|c}&d='(e)'",
        "//double",
    ],
)
async def test_a_destination_is_requested_exactly_as_it_was_written(
    emulator: Emulator, inbox: Subscriber, rest: str
) -> None:
    raw = raw_publish(f"/v2/publish/{inbox.url}{rest}", f"Authorization: Bearer {TOKEN}")
    assert b"200 OK" in await send_raw(emulator, raw)
    await eventually(lambda: inbox.deliveries)
    assert inbox.deliveries[0].url == inbox.url + rest


@pytest.mark.parametrize("rest", ["/x?", "/a/../b?%41=%zz&", "?"])
async def test_a_destination_is_stored_exactly_as_it_was_written(
    emulator: Emulator, rest: str
) -> None:
    target = f"/v2/publish/http://a.example{rest}"
    raw = raw_publish(target, f"Authorization: Bearer {TOKEN}", "Upstash-Delay: 3000d")
    assert b"200 OK" in await send_raw(emulator, raw)
    (kept,) = emulator.broker.messages(Filter())
    assert kept.url == f"http://a.example{rest}"


async def test_a_body_is_delivered_as_it_came_compressed_or_not(
    emulator: Emulator, inbox: Subscriber
) -> None:
    packed = gzip.compress(b"hello")
    headers = {"Content-Encoding": "gzip", "Upstash-Forward-Content-Encoding": "gzip"}
    await emulator.ask("POST", f"/v2/publish/{inbox.url}/packed", data=packed, headers=headers)
    (came,) = await inbox.wait_for("/packed")
    assert (came.body, came.headers["Content-Encoding"]) == (packed, "gzip")
    assert came.headers["Upstash-Caller-Ip"] == CALLER


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v2/unknown", 404),
        ("GET", "/v1/keys", 404),
        ("PUT", "/v2/keys", 405),
        ("GET", f"/v2/publish/{NOWHERE}", 405),
        ("GET", "/v2/messages/msg_unknown", 404),
        ("DELETE", "/v2/messages/msg_unknown", 404),
        ("DELETE", "/v2/messages?lable=x", 400),
        ("GET", "/v2/dlq/dlq_unknown", 404),
        ("DELETE", "/v2/dlq/dlq_unknown", 404),
        ("POST", "/v2/dlq/retry/dlq_unknown", 404),
        ("POST", "/v2/dlq/retry?dlqIds=dlq_unknown", 404),
        ("GET", "/v2/dlq?count=x", 400),
        ("GET", "/v2/schedules/scd_unknown", 404),
        ("DELETE", "/v2/schedules/scd_unknown", 404),
        ("PATCH", "/v2/schedules/scd_unknown/pause", 404),
        ("POST", "/v2/schedules/scd_unknown/resume", 404),
        ("POST", f"/v2/schedules/{NOWHERE}", 400),
        ("GET", "/v2/topics/unknown", 404),
        ("DELETE", "/v2/topics/unknown", 404),
        ("POST", "/v2/publish/unknown", 404),
        ("POST", "/v2/publish/ftp://example.com", 400),
        ("POST", f"/v2/enqueue/a%20b/{NOWHERE}", 400),
        ("POST", "/v2/batch", 400),
        ("GET", "/v2/queues/unknown", 404),
        ("POST", "/v2/queues", 400),
        ("POST", "/v2/queues/a%20b/pause", 400),
        ("GET", "/v2/flowControl/unknown", 404),
        ("POST", "/v2/flowControl/k/pin", 400),
        ("POST", "/v2/flowControl/k/unpin?rate=x", 400),
        ("GET", "/v2/logs?state=GONE", 400),
        ("GET", "/v2/events?cursor=x", 400),
    ],
)
async def test_an_error_is_answered_in_json(
    emulator: Emulator, method: str, path: str, status: int
) -> None:
    given, said = await emulator.ask(method, path)
    assert given == status
    assert isinstance(said["error"], str)
    assert said["error"]


async def test_a_body_that_is_too_long_is_refused(emulator: Emulator) -> None:
    status, said = await emulator.ask("POST", f"/v2/publish/{NOWHERE}", data=b"x" * (MAX_BODY + 1))
    assert (status, list(said)) == (413, ["error"])
    status, _ = await emulator.ask("POST", f"/v2/publish/{NOWHERE}", data=b"x" * MAX_BODY)
    assert status == 200


AUTH = f"Authorization: Bearer {TOKEN}"


@pytest.mark.parametrize(
    "raw",
    [
        b"\x00\x01\x02\r\n\r\n",
        b"GET\r\n\r\n",
        f"GET /v2/keys?qstash_token={TOKEN} HTTP/9.9\r\n\r\n".encode(),
        raw_publish("http://localhost/v2/keys", AUTH),
        raw_publish("*", AUTH).replace(b"POST", b"OPTIONS"),
        raw_publish("a:80", AUTH).replace(b"POST", b"CONNECT"),
        raw_publish("/v2/publish/http://a/\udcff", AUTH),
        raw_publish("/v2/publish/http://[::1", AUTH),
        raw_publish("/v2/publish/http://a/%zz%", AUTH),
        raw_publish("/v2/publish/" + "http://a/" * 5000, AUTH),
        raw_publish("/v2/publish/" + "a" * 70_000, AUTH),
        raw_publish("/v2/publish/http://a/", AUTH, "Upstash-Forward-X: \udcff"),
        raw_publish("/v2/publish/http://a/", AUTH, "Upstash-Retries: \udcff"),
        raw_publish("/v2/publish/http://a/", "Authorization: Bearer \udcff"),
        raw_publish("/v2/publish/http://a/?qstash_token=%ff%ed%a0%80"),
        raw_publish("/v2/flowControl/%ff%ed%a0%80/pause", AUTH),
        raw_publish("/v2/flowControl/\udcff/pause", AUTH),
        raw_publish("/v2/flowControl/%0a/pause", AUTH),
        raw_publish("/v2/batch", AUTH, body=b'[{"destination": "\\ud800"}]'),
        raw_publish("/v2/batch", AUTH, body=b'[{"destination": "http://a/", "body": "\\ud800"}]'),
        raw_publish("/v2/batch", AUTH, body=b"[" * 19_000),
        raw_publish("/v2/queues", AUTH, body=b'{"queueName": "q", "parallelism": 1e400}'),
        raw_publish("/v2/batch", AUTH, "Transfer-Encoding: chunked", body=b"zz\r\n"),
        raw_publish("/v2/batch", AUTH, "Expect: nonsense", body=b"[]"),
    ],
)
async def test_no_input_causes_an_error_of_ours(
    emulator: Emulator, raw: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    said = await send_raw(emulator, raw)
    assert said.split(b" ")[1][:1] in {b"2", b"4"}
    assert TOKEN not in caplog.text
    assert "Traceback" not in caplog.text
    status, _ = await emulator.ask("GET", "/v2/keys")
    assert status == 200


async def test_an_incomplete_body_is_ignored(
    emulator: Emulator, caplog: pytest.LogCaptureFixture
) -> None:
    host, _, port = emulator.url.removeprefix("http://").partition(":")
    for _ in range(3):
        _, writer = await asyncio.open_connection(host, int(port))
        head = raw_publish(f"/v2/publish/{NOWHERE}", AUTH).partition(b"\r\n\r\n")[0]
        writer.write(head.replace(b"Length: 1", b"Length: 99") + b"\r\n\r\nshort")
        await writer.drain()
        writer.close()
        await writer.wait_closed()
    assert (await emulator.ask("GET", "/v2/keys"))[0] == 200
    assert emulator.broker.messages(Filter()) == []
    assert "Traceback" not in caplog.text


async def test_lists_and_trailing_slashes_that_no_sdk_uses_work(emulator: Emulator) -> None:
    flow = {"Upstash-Flow-Control-Key": "a/b", "Upstash-Flow-Control-Value": "rate=1"}
    await emulator.ask("POST", f"/v2/publish/{NOWHERE}", headers=flow)
    status, flow_controls = await emulator.ask("GET", "/v2/flowControl")
    assert (status, [one["flowControlKey"] for one in flow_controls]) == (200, ["a/b"])
    assert (await emulator.ask("POST", "/v2/queues/", json={"queueName": "q"}))[0] == 200
    status, queues = await emulator.ask("GET", "/v2/queues/")
    assert [queue["name"] for queue in queues] == ["q"]
    status, logs = await emulator.ask("GET", "/v2/logs", params={"count": "1"})
    assert (status, len(logs["logs"])) == (200, 1)


@pytest.mark.parametrize("method", ["PATCH", "POST"])
async def test_a_schedule_is_paused_by_either_method(emulator: Emulator, method: str) -> None:
    headers = {"Upstash-Cron": "0 0 1 1 *", "Upstash-Schedule-Id": "s"}
    made = await emulator.ask("POST", f"/v2/schedules/{NOWHERE}pause", headers=headers)
    assert made == (200, {"scheduleId": "s"})
    assert (await emulator.ask(method, "/v2/schedules/s/pause"))[0] == 200
    _, seen = await emulator.ask("GET", "/v2/schedules/s")
    assert (seen["isPaused"], seen["destination"]) == (True, f"{NOWHERE}pause")


async def test_the_statuses_are_those_of_qstash(emulator: Emulator, inbox: Subscriber) -> None:
    url = inbox.answer("/never", (400, {}, b""))
    headers = {"Upstash-Retries": "0", "Upstash-Deduplication-Id": "d"}
    statuses = [
        (await emulator.ask("POST", f"/v2/publish/{url}", headers=headers))[0] for _ in range(2)
    ]
    assert statuses == [200, 202]

    async def dlq() -> Any:
        return (await emulator.ask("GET", "/v2/dlq"))[1]["messages"]

    await eventually(dlq)
    (in_dlq,) = await dlq()
    status, said = await emulator.ask("POST", f"/v2/dlq/retry/{in_dlq['dlqId']}")
    assert (status, list(said)) == (201, ["messageId"])
    await emulator.ask("POST", f"/v2/publish/{url}", headers={"Upstash-Retries": "0"})

    async def are_two() -> bool:
        return len(await dlq()) == 2

    await eventually(are_two)
    ids = ",".join(one["dlqId"] for one in await dlq())
    # `count` is only for filters, not for lists of IDs.
    status, said = await emulator.ask("DELETE", f"/v2/dlq?count=1&dlqIds={ids}")
    assert (status, said) == (200, {"deleted": 2})
    status, said = await emulator.ask("DELETE", "/v2/messages", json={"messageIds": []})
    assert (status, said) == (202, {"cancelled": 0})


async def test_many_publish_at_once(emulator: Emulator, inbox: Subscriber) -> None:
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {TOKEN}"}) as session:

        async def publish(number: int) -> str:
            url = f"{emulator.url}/v2/publish/{inbox.url}/many"
            async with session.post(url, data=str(number)) as response:
                return str((await response.json())["messageId"])

        ids = await asyncio.gather(*map(publish, range(100)))
    came = await inbox.wait_for("/many", 100)
    assert len(set(ids)) == 100
    assert sorted(int(one.body) for one in came) == list(range(100))
