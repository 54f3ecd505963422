"""The courier: attempts over real HTTP, signed as the service signs them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import msgspec
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from multidict import CIMultiDict
from qstash import Receiver

from hookmill.emulator import dispatcher as courier_module
from hookmill.emulator.broker import Desk
from hookmill.emulator.dispatcher import MOST_BYTES, Courier
from hookmill.emulator.models import Callback, Endpoint, Filter, Keys, Order, Template
from hookmill.emulator.state import State
from hookmill.errors import StreamUnavailableError
from hookmill.signatures.qstash import DEVELOPMENT_KEYS
from tests.support import eventually, free_port

Start = Callable[..., Awaitable[tuple[Desk, Courier]]]


async def saved() -> None:
    """Nothing to write down to: these tests are about HTTP."""


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    couriers: list[Courier] = []

    async def begin(
        keep: Callable[[], Awaitable[None]] = saved, **options: Any
    ) -> tuple[Desk, Courier]:
        desk = Desk(State(), **{"scale": 0.001, **options})
        courier = Courier(desk, keep)
        couriers.append(courier)
        courier.start()
        return desk, courier

    yield begin
    for courier in couriers:
        await courier.stop()


class Subscriber:
    """A destination that keeps what it got and answers what it is told to."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str, CIMultiDict[str], bytes]] = []
        self.answers: list[web.StreamResponse] = []
        self.url = ""
        self.waits: asyncio.Event | None = None

    async def receive(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        self.seen.append((request.method, request.raw_path, CIMultiDict(request.headers), body))
        if self.waits is not None:
            await self.waits.wait()
        return self.answers.pop(0) if self.answers else web.Response()


@pytest.fixture
async def subscriber() -> AsyncIterator[Subscriber]:
    found = Subscriber()
    app = web.Application(client_max_size=10 * MOST_BYTES)
    app.router.add_route("*", "/{tail:.*}", found.receive)
    server = TestServer(app)
    await server.start_server()
    found.url = f"http://127.0.0.1:{server.port}"
    yield found
    await server.close()


async def test_an_attempt_carries_what_the_service_sends_and_a_token_for_the_verbatim_url(
    start: Start, subscriber: Subscriber
) -> None:
    desk, courier = await start()
    url = f"{subscriber.url}/a%2Fb/../c?x=%2F&y=a+b"
    headers = (
        ("Content-Type", "text/weird"), ("X-A", "1"), ("X-A", "2"), ("Upstash-Signature", "mine"),
        ("Host", "elsewhere"), ("Content-Length", "0"),
    )  # fmt: skip
    template = Template(method="PATCH", headers=headers, body=b"{\n} ", caller_ip="10.0.0.1")
    (receipt,) = desk.publish(Order(url, template))
    courier.wake()
    await eventually(lambda: subscriber.seen and not desk.messages(Filter()))

    ((method, path, got, body),) = subscriber.seen
    assert (method, path, body) == ("PATCH", "/a%2Fb/../c?x=%2F&y=a+b", b"{\n} ")
    token = got.popone("Upstash-Signature")
    assert dict(got) == {
        "Host": f"127.0.0.1:{subscriber.url.rpartition(':')[2]}", "Content-Length": "4",
        "Content-Type": "text/weird", "X-A": "1", "User-Agent": "Upstash-QStash",
        "Upstash-Message-Id": receipt.message_id, "Upstash-Retried": "0",
        "Upstash-Caller-Ip": "10.0.0.1", "Upstash-Region": "EU-CENTRAL-1",
    }  # fmt: skip
    assert got.getall("X-A") == ["1", "2"]
    Receiver(*DEVELOPMENT_KEYS).verify(signature=token, body="{\n} ", url=url)


async def test_each_attempt_has_a_token_of_its_own_and_counts_the_retries(
    start: Start, subscriber: Subscriber
) -> None:
    desk, courier = await start()
    subscriber.answers = [web.Response(status=500), web.Response(status=404)]
    desk.topics.add("site", [Endpoint(subscriber.url)])
    desk.publish(Order("site", Template(headers=(("user-agent", "mine"),))), "scd_1")
    courier.wake()
    await eventually(lambda: len(subscriber.seen) == 3 and not desk.messages(Filter()))

    sent = [headers for _, _, headers, _ in subscriber.seen]
    assert [one["Upstash-Retried"] for one in sent] == ["0", "1", "2"]
    assert len({one["Upstash-Message-Id"] for one in sent}) == 1
    assert len({one["Upstash-Signature"] for one in sent}) == 3
    assert {one["User-Agent"] for one in sent} == {"mine"}
    assert {one["Upstash-Topic-Name"] for one in sent} == {"site"}
    assert {one["Upstash-Schedule-Id"] for one in sent} == {"scd_1"}


async def test_new_keys_sign_from_the_next_attempt_on(start: Start, subscriber: Subscriber) -> None:
    desk, courier = await start(keys=Keys("sig_" + 30 * "1", "sig_" + 30 * "2"))
    rotated = desk.rotate_keys()
    desk.publish(Order(subscriber.url, Template(body=b"x")))
    courier.wake()
    await eventually(lambda: len(subscriber.seen) == 1 and not desk.messages(Filter()))
    token = subscriber.seen[0][2]["Upstash-Signature"]
    Receiver(rotated.current, rotated.next).verify(signature=token, body="x", url=subscriber.url)


async def test_a_redirect_is_an_answer_like_another_and_is_not_followed(
    start: Start, subscriber: Subscriber
) -> None:
    desk, courier = await start()
    subscriber.answers = [web.Response(status=302, headers={"Location": "/elsewhere"})]
    desk.publish(Order(f"{subscriber.url}/here", Template(retries=0)))
    courier.wake()
    await eventually(lambda: desk.dead_letters(Filter()))
    assert [path for _, path, _, _ in subscriber.seen] == ["/here"]
    assert desk.dead_letters(Filter())[0].answer.status == 302


async def test_an_answer_is_kept_with_its_headers_and_the_beginning_of_its_body(
    start: Start, subscriber: Subscriber
) -> None:
    desk, courier = await start()
    headers = {"X-Why": "because"}
    subscriber.answers = [web.Response(status=500, headers=headers, body=b"x" * (MOST_BYTES + 999))]
    desk.publish(Order(subscriber.url, Template(retries=0)))
    courier.wake()
    await eventually(lambda: desk.dead_letters(Filter()))
    answer = desk.dead_letters(Filter())[0].answer
    assert answer.body == b"x" * MOST_BYTES
    assert dict(answer.headers)["X-Why"] == "because"


async def test_a_destination_that_is_slow_gone_or_nonsense_is_a_failed_attempt(
    start: Start, subscriber: Subscriber
) -> None:
    desk, courier = await start()
    subscriber.waits = asyncio.Event()
    for url in (subscriber.url, f"http://127.0.0.1:{free_port()}/", "http://a b/", "http://[/"):
        desk.publish(Order(url, Template(retries=0, timeout=0.2)))
    courier.wake()
    await eventually(lambda: len(desk.dead_letters(Filter())) == 4)
    subscriber.waits.set()
    errors = {one.message.url: one.answer.error for one in desk.dead_letters(Filter())}
    assert errors[subscriber.url] == "no answer within 0.2 s"
    assert all(errors.values())


async def test_a_slow_destination_holds_up_no_other(start: Start, subscriber: Subscriber) -> None:
    desk, courier = await start()
    subscriber.waits = asyncio.Event()
    desk.publish(Order(f"{subscriber.url}/slow", Template()))
    courier.wake()
    await eventually(lambda: len(subscriber.seen) == 1)
    desk.publish(Order(f"{subscriber.url}/other", Template()))
    courier.wake()
    await eventually(lambda: len(subscriber.seen) == 2)
    subscriber.waits.set()
    await eventually(lambda: not desk.messages(Filter()))


async def test_what_cannot_be_written_down_now_does_not_stop_the_courier(
    start: Start, subscriber: Subscriber
) -> None:
    failures = [StreamUnavailableError("gone"), TimeoutError()]

    async def keep() -> None:
        if failures:
            raise failures.pop()

    desk, courier = await start(keep)
    desk.publish(Order(subscriber.url, Template()))
    courier.wake()
    await eventually(lambda: not desk.messages(Filter()))
    assert failures == []


async def test_stopping_leaves_an_attempt_under_way_to_the_next_start(
    start: Start, subscriber: Subscriber
) -> None:
    desk, courier = await start()
    subscriber.waits = asyncio.Event()
    (receipt,) = desk.publish(Order(subscriber.url, Template()))
    courier.wake()
    await eventually(lambda: len(subscriber.seen) == 1)
    await courier.stop()
    subscriber.waits.set()
    assert desk.message(receipt.message_id).retried == 0


async def test_an_answer_with_bytes_that_are_no_text_can_be_written_down(
    start: Start, subscriber: Subscriber
) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nX-Name: caf\xe9\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        writer.close()

    desk, courier = await start()
    callback = Callback(f"{subscriber.url}/callback")
    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        desk.publish(Order(f"http://127.0.0.1:{port}/", Template(callback=callback)))
        courier.wake()
        await eventually(lambda: subscriber.seen and not desk.messages(Filter()))
    for entry in desk.logs(Filter()):
        msgspec.msgpack.encode(entry)
    assert msgspec.json.decode(subscriber.seen[0][3])["header"]["X-Name"] == ["caf\ufffd"]


@pytest.mark.parametrize("failing", [1, 2])
async def test_a_fault_of_ours_ends_it_in_the_loop_and_in_an_attempt(
    subscriber: Subscriber, failing: int
) -> None:
    calls = 0

    async def keep() -> None:
        nonlocal calls
        calls += 1
        if calls == failing:
            raise RuntimeError("a fault of ours")

    desk = Desk(State())
    desk.publish(Order(subscriber.url, Template()))
    courier = Courier(desk, keep)
    running = courier.start()
    try:
        with pytest.raises(RuntimeError, match="a fault of ours"):
            await asyncio.wait_for(running, 10)
    finally:
        await courier.stop()


async def test_what_begins_is_written_down_before_it_leaves(
    start: Start, subscriber: Subscriber
) -> None:
    seen_when_written: list[int] = []

    async def keep() -> None:
        if desk.active and not seen_when_written:
            await asyncio.sleep(0.3)  # as long as an attempt would take
            seen_when_written.append(len(subscriber.seen))

    desk, courier = await start(keep)
    desk.publish(Order(subscriber.url, Template()))
    courier.wake()
    await eventually(lambda: not desk.messages(Filter()))
    assert seen_when_written == [0]


async def test_what_is_cancelled_while_it_is_written_down_does_not_leave(
    start: Start, subscriber: Subscriber
) -> None:
    async def keep() -> None:
        if desk.active:
            desk.cancel(Filter(urls=(f"{subscriber.url}/cancelled",)))

    desk, courier = await start(keep)
    desk.publish(Order(f"{subscriber.url}/cancelled", Template()))
    desk.publish(Order(f"{subscriber.url}/other", Template()))
    courier.wake()
    await eventually(lambda: subscriber.seen and not desk.active)
    assert [path for _, path, _, _ in subscriber.seen] == ["/other"]


async def test_a_clock_that_jumps_is_noticed(
    start: Start, subscriber: Subscriber, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(courier_module, "LOOK_AGAIN", 0.1)
    ahead = 0.0
    desk, courier = await start(clock=lambda: time.time() + ahead, scale=1)
    desk.publish(Order(subscriber.url, Template(), delay_ms=3_600_000))
    courier.wake()
    await asyncio.sleep(0.05)
    ahead = 3600.0
    await eventually(lambda: not desk.messages(Filter()))
    assert len(subscriber.seen) == 1


async def test_a_cookie_of_one_answer_is_not_sent_with_another_message(
    start: Start, subscriber: Subscriber
) -> None:
    desk, courier = await start()
    by_name = subscriber.url.replace("127.0.0.1", "localhost")
    for _ in range(2):
        subscriber.answers = [web.Response(headers={"Set-Cookie": "session=1; Path=/"})]
        desk.publish(Order(by_name, Template()))
        courier.wake()
        await eventually(lambda: not desk.messages(Filter()))
    assert ["Cookie" in headers for _, _, headers, _ in subscriber.seen] == [False, False]
