"""The stand-in's API over real sockets: its answers, its token, and what no client can do."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from structlog.testing import capture_logs

from hookmill.emulator.app import make_app, serving
from hookmill.emulator.broker import Desk
from hookmill.emulator.models import Filter
from hookmill.emulator.state import State
from hookmill.errors import StreamUnavailableError
from tests.emulator.served import CALLER, TOKEN, Standin, Subscriber, standin, subscriber
from tests.support import eventually

LIMIT = 20_000
NOWHERE = "http://127.0.0.1:9/"


@pytest.fixture
async def desk() -> AsyncIterator[Standin]:
    async with standin(scale=0.001, max_body=LIMIT) as running:
        yield running


@pytest.fixture
async def inbox() -> AsyncIterator[Subscriber]:
    async with subscriber() as running:
        yield running


async def send_raw(desk: Standin, raw: bytes) -> bytes:
    """Send bytes, and return all that comes until the other side closes."""
    host, _, port = desk.url.removeprefix("http://").partition(":")
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


# --- who asks ---


async def test_the_front_page_says_what_this_is(desk: Standin) -> None:
    async with desk.asked("GET", "/", token=None) as response:
        assert response.status == 200
        assert "development tool" in await response.text()


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer wrong"},
        {"Authorization": f"Basic {TOKEN}"},
        {"Authorization": TOKEN},
        {"Authorization": "Bearer"},
        {"Authorization": f"Bearer {TOKEN}x"},
        {"Authorization": "Bearer \u00fc"},
    ],
)
async def test_without_the_token_nothing_is_done(desk: Standin, headers: dict[str, str]) -> None:
    for method, path in (
        ("POST", f"/v2/publish/{NOWHERE}"),
        ("GET", "/v2/keys"),
        ("DELETE", "/v2/messages"),
        ("GET", "/v2/unknown"),
        ("POST", f"/v2/publish/{NOWHERE}?qstash_token=wrong"),
    ):
        status, said = await desk.ask(method, path, token=None, headers=headers)
        assert status == 401
        assert "token" in said["error"]
    assert desk.kept == [0]


async def test_the_token_may_stand_in_the_query_and_goes_no_further(
    desk: Standin, inbox: Subscriber
) -> None:
    url = f"{inbox.url}/hook?a=1"
    path = f"/v2/publish/{url}&qstash_token={TOKEN}&upstash-header-forward=true"
    status, _ = await desk.ask(
        "POST", path, token=None, data=b"x", headers={"X-Theirs": "1", "Authorization": "Basic x"}
    )
    assert status == 200
    (came,) = await inbox.wait_for("/hook")
    assert came.url == url
    assert (came.headers["X-Theirs"], came.headers["Authorization"]) == ("1", "Basic x")
    assert came.headers["User-Agent"] == "Upstash-QStash"
    assert TOKEN not in str(came.shown())


async def test_our_token_is_not_forwarded_with_all_headers(
    desk: Standin, inbox: Subscriber
) -> None:
    headers = {"Upstash-Header-Forward": "true", "X-Theirs": "1"}
    await desk.ask("POST", f"/v2/publish/{inbox.url}/hook", headers=headers)
    (came,) = await inbox.wait_for("/hook")
    assert came.headers["X-Theirs"] == "1"
    assert "Authorization" not in came.headers


# --- the wire ---


@pytest.mark.parametrize(
    "rest",
    [
        "/a/../b//c/./d",
        "/a%2Fb%2e%2E%c3%bc?x=%2F&y=a+b&&z",
        "/x?next=https://other.example/?a={b|c}&d='(e)'",
        "//double",
    ],
)
async def test_a_destination_is_called_just_as_it_was_written(
    desk: Standin, inbox: Subscriber, rest: str
) -> None:
    raw = raw_publish(f"/v2/publish/{inbox.url}{rest}", f"Authorization: Bearer {TOKEN}")
    assert b"200 OK" in await send_raw(desk, raw)
    await eventually(lambda: inbox.deliveries)
    assert inbox.deliveries[0].url == inbox.url + rest


@pytest.mark.parametrize("rest", ["/x?", "/a/../b?%41=%zz&", "?"])
async def test_a_destination_is_kept_just_as_it_was_written(desk: Standin, rest: str) -> None:
    target = f"/v2/publish/http://a.example{rest}"
    raw = raw_publish(target, f"Authorization: Bearer {TOKEN}", "Upstash-Delay: 3000d")
    assert b"200 OK" in await send_raw(desk, raw)
    (kept,) = desk.desk.messages(Filter())
    assert kept.url == f"http://a.example{rest}"


async def test_a_body_is_delivered_as_it_came_compressed_or_not(
    desk: Standin, inbox: Subscriber
) -> None:
    packed = gzip.compress(b"hello")
    headers = {"Content-Encoding": "gzip", "Upstash-Forward-Content-Encoding": "gzip"}
    await desk.ask("POST", f"/v2/publish/{inbox.url}/packed", data=packed, headers=headers)
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
async def test_what_cannot_be_done_is_said_in_json(
    desk: Standin, method: str, path: str, status: int
) -> None:
    given, said = await desk.ask(method, path)
    assert given == status
    assert isinstance(said["error"], str)
    assert said["error"]


async def test_a_body_that_is_too_long_is_refused(desk: Standin) -> None:
    status, said = await desk.ask("POST", f"/v2/publish/{NOWHERE}", data=b"x" * (LIMIT + 1))
    assert (status, list(said)) == (413, ["error"])
    status, _ = await desk.ask("POST", f"/v2/publish/{NOWHERE}", data=b"x" * LIMIT)
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
async def test_nothing_that_is_sent_is_an_error_of_ours(
    desk: Standin, raw: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    said = await send_raw(desk, raw)
    assert said.split(b" ")[1][:1] in {b"2", b"4"}
    assert TOKEN not in caplog.text
    assert "Traceback" not in caplog.text
    status, _ = await desk.ask("GET", "/v2/keys")
    assert status == 200


async def test_half_a_body_is_nothing(desk: Standin, caplog: pytest.LogCaptureFixture) -> None:
    host, _, port = desk.url.removeprefix("http://").partition(":")
    for _ in range(3):
        _, writer = await asyncio.open_connection(host, int(port))
        head = raw_publish(f"/v2/publish/{NOWHERE}", AUTH).partition(b"\r\n\r\n")[0]
        writer.write(head.replace(b"Length: 1", b"Length: 99") + b"\r\n\r\nshort")
        await writer.drain()
        writer.close()
        await writer.wait_closed()
    assert (await desk.ask("GET", "/v2/keys"))[0] == 200
    assert desk.desk.messages(Filter()) == []
    assert "Traceback" not in caplog.text


# --- what is written down, and what is logged ---


async def test_what_a_request_changed_is_written_down_before_it_is_answered(
    desk: Standin,
) -> None:
    held = asyncio.Event()
    state = State()

    async def keep() -> None:
        await held.wait()
        state.journal.clear()

    inner = Desk(state)
    async with serving(inner, keep, TOKEN, "127.0.0.1", 0) as port:
        here = desk._replace(url=f"http://127.0.0.1:{port}")
        asking = asyncio.create_task(here.ask("POST", f"/v2/publish/{NOWHERE}"))
        await eventually(lambda: len(state.messages) == 1)
        assert (await here.ask("GET", "/v2/keys"))[0] == 200  # nothing to be written down
        assert not asking.done()
        held.set()
        assert (await asking)[0] == 200
        assert not state.journal


async def test_what_cannot_be_written_down_is_not_accepted(desk: Standin) -> None:
    async def keep() -> None:
        raise StreamUnavailableError("Redis is away")

    async with serving(Desk(State()), keep, TOKEN, "127.0.0.1", 0) as port:
        here = desk._replace(url=f"http://127.0.0.1:{port}")
        status, said = await here.ask("POST", f"/v2/publish/{NOWHERE}")
    assert status == 503
    assert "Redis is away" in said["error"]


async def test_a_change_before_a_refusal_is_written_down_too(desk: Standin) -> None:
    items = [{"destination": NOWHERE}, {"destination": "unknown"}]
    before = desk.kept[0]
    status, said = await desk.ask("POST", "/v2/batch", json=items)
    assert status == 200
    assert list(said[1]) == ["error"]
    assert desk.kept[0] > before


async def test_a_request_is_one_line_in_the_log_without_what_is_secret(desk: Standin) -> None:
    headers = {"Upstash-Forward-X": "forwarded-value", "Upstash-Retries": "0"}
    secret = f"{NOWHERE}path-secret?key=query-secret"
    with capture_logs() as lines:
        await desk.ask("POST", f"/v2/publish/{secret}", data=b"body-secret", headers=headers)
        await desk.ask("POST", "/v2/publish/ftp://path-secret", data=b"body-secret")
        await desk.ask("GET", f"/v2/keys?qstash_token={TOKEN}", token="wrong-secret")
        await desk.ask("POST", "/v2/keys", token="wrong-secret")
    asked = [line for line in lines if "route" in line]
    assert [(line["log_level"], line["event"], line["status"]) for line in asked] == [
        ("debug", "answered", 200),
        ("info", "refused", 400),
        ("debug", "answered", 200),
        ("info", "refused", 401),
    ]
    assert asked[0]["route"] == "/v2/publish/{destination}"
    for hidden in (TOKEN, "-secret", "forwarded-value"):
        assert hidden not in str(asked)


async def test_the_server_itself_logs_no_request(desk: Standin) -> None:
    app = make_app(desk.desk, desk.courier.stop, TOKEN)
    runner = web.AppRunner(app)
    await runner.setup()
    assert runner.server is not None
    assert runner.server._kwargs["access_log"] is None
    await runner.cleanup()


# --- what the SDKs do not reach ---


async def test_the_lists_and_the_slashes_that_only_the_reference_has(desk: Standin) -> None:
    flow = {"Upstash-Flow-Control-Key": "a/b", "Upstash-Flow-Control-Value": "rate=1"}
    await desk.ask("POST", f"/v2/publish/{NOWHERE}", headers=flow)
    status, gates = await desk.ask("GET", "/v2/flowControl")
    assert (status, [gate["flowControlKey"] for gate in gates]) == (200, ["a/b"])
    assert (await desk.ask("POST", "/v2/queues/", json={"queueName": "q"}))[0] == 200
    status, queues = await desk.ask("GET", "/v2/queues/")
    assert [queue["name"] for queue in queues] == ["q"]
    status, logs = await desk.ask("GET", "/v2/logs", params={"count": "1"})
    assert (status, len(logs["logs"])) == (200, 1)


@pytest.mark.parametrize("method", ["PATCH", "POST"])
async def test_a_schedule_is_paused_by_either_method(desk: Standin, method: str) -> None:
    headers = {"Upstash-Cron": "0 0 1 1 *", "Upstash-Schedule-Id": "s"}
    made = await desk.ask("POST", f"/v2/schedules/{NOWHERE}pause", headers=headers)
    assert made == (200, {"scheduleId": "s"})
    assert (await desk.ask(method, "/v2/schedules/s/pause"))[0] == 200
    _, seen = await desk.ask("GET", "/v2/schedules/s")
    assert (seen["isPaused"], seen["destination"]) == (True, f"{NOWHERE}pause")


async def test_the_statuses_are_the_services(desk: Standin, inbox: Subscriber) -> None:
    url = inbox.answer("/never", (400, {}, b""))
    headers = {"Upstash-Retries": "0", "Upstash-Deduplication-Id": "d"}
    statuses = [
        (await desk.ask("POST", f"/v2/publish/{url}", headers=headers))[0] for _ in range(2)
    ]
    assert statuses == [200, 202]

    async def letters() -> Any:
        return (await desk.ask("GET", "/v2/dlq"))[1]["messages"]

    await eventually(letters)
    (letter,) = await letters()
    status, said = await desk.ask("POST", f"/v2/dlq/retry/{letter['dlqId']}")
    assert (status, list(said)) == (201, ["messageId"])
    await desk.ask("POST", f"/v2/publish/{url}", headers={"Upstash-Retries": "0"})

    async def are_two() -> bool:
        return len(await letters()) == 2

    await eventually(are_two)
    ids = ",".join(letter["dlqId"] for letter in await letters())
    # Who names them has counted them: `count` is for filters.
    status, said = await desk.ask("DELETE", f"/v2/dlq?count=1&dlqIds={ids}")
    assert (status, said) == (200, {"deleted": 2})
    status, said = await desk.ask("DELETE", "/v2/messages", json={"messageIds": []})
    assert (status, said) == (202, {"cancelled": 0})


async def test_many_publish_at_once(desk: Standin, inbox: Subscriber) -> None:
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {TOKEN}"}) as session:

        async def publish(number: int) -> str:
            url = f"{desk.url}/v2/publish/{inbox.url}/many"
            async with session.post(url, data=str(number)) as response:
                return str((await response.json())["messageId"])

        ids = await asyncio.gather(*map(publish, range(100)))
    came = await inbox.wait_for("/many", 100)
    assert len(set(ids)) == 100
    assert sorted(int(one.body) for one in came) == list(range(100))


async def test_until_redis_takes_what_it_did_not_nothing_more_is_taken_in(desk: Standin) -> None:
    state, is_away = State(), True

    async def keep() -> None:
        if is_away:
            raise StreamUnavailableError("Redis is away")

    async with serving(Desk(state), keep, TOKEN, "127.0.0.1", 0) as port:
        here = desk._replace(url=f"http://127.0.0.1:{port}")
        for _ in range(3):
            assert (await here.ask("POST", f"/v2/publish/{NOWHERE}"))[0] == 503
        assert len(state.messages) == 1
        is_away = False
        assert (await here.ask("POST", f"/v2/publish/{NOWHERE}"))[0] == 200
    assert len(state.messages) == 2
