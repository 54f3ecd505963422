"""The dispatcher: attempts over real HTTP, signed as QStash signs them."""

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

from hookmill.emulator import dispatcher as dispatcher_module
from hookmill.emulator.broker import Broker
from hookmill.emulator.dispatcher import MAX_BYTES, Dispatcher
from hookmill.emulator.filters import Filter
from hookmill.emulator.models import CallbackTarget, Endpoint, PublishRequest, SigningKeys, Template
from hookmill.emulator.state import State
from hookmill.errors import StreamUnavailableError
from hookmill.signatures.qstash import DEVELOPMENT_KEYS
from tests.ports import free_port
from tests.support import eventually

Start = Callable[..., Awaitable[tuple[Broker, Dispatcher]]]


async def saved() -> None:
    """Nothing to write down to: these tests are about HTTP."""


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    dispatchers: list[Dispatcher] = []

    async def begin(
        save: Callable[[], Awaitable[None]] = saved, **options: Any
    ) -> tuple[Broker, Dispatcher]:
        broker = Broker(State(), **{"scale": 0.001, **options})
        dispatcher = Dispatcher(broker, save)
        dispatchers.append(dispatcher)
        dispatcher.start()
        return broker, dispatcher

    yield begin
    for dispatcher in dispatchers:
        await dispatcher.stop()


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
    app = web.Application(client_max_size=10 * MAX_BYTES)
    app.router.add_route("*", "/{tail:.*}", found.receive)
    server = TestServer(app)
    await server.start_server()
    found.url = f"http://127.0.0.1:{server.port}"
    yield found
    await server.close()


async def test_an_attempt_has_qstashs_headers_and_a_token_for_the_unchanged_url(
    start: Start, subscriber: Subscriber
) -> None:
    broker, dispatcher = await start()
    url = f"{subscriber.url}/a%2Fb/../c?x=%2F&y=a+b"
    headers = (
        ("Content-Type", "text/weird"), ("X-A", "1"), ("X-A", "2"), ("Upstash-Signature", "mine"),
        ("Host", "elsewhere"), ("Content-Length", "0"),
    )  # fmt: skip
    template = Template(method="PATCH", headers=headers, body=b"{\n} ", caller_ip="10.0.0.1")
    (receipt,) = broker.publish(PublishRequest(url, template))
    dispatcher.wake()
    await eventually(lambda: subscriber.seen and not broker.messages(Filter()))

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


async def test_each_attempt_has_its_own_token_and_counts_the_retries(
    start: Start, subscriber: Subscriber
) -> None:
    broker, dispatcher = await start()
    subscriber.answers = [web.Response(status=500), web.Response(status=404)]
    broker.url_groups.add("site", [Endpoint(subscriber.url)])
    broker.publish(PublishRequest("site", Template(headers=(("user-agent", "mine"),))), "scd_1")
    dispatcher.wake()
    await eventually(lambda: len(subscriber.seen) == 3 and not broker.messages(Filter()))

    sent = [headers for _, _, headers, _ in subscriber.seen]
    assert [one["Upstash-Retried"] for one in sent] == ["0", "1", "2"]
    assert len({one["Upstash-Message-Id"] for one in sent}) == 1
    assert len({one["Upstash-Signature"] for one in sent}) == 3
    assert {one["User-Agent"] for one in sent} == {"mine"}
    assert {one["Upstash-Topic-Name"] for one in sent} == {"site"}
    assert {one["Upstash-Schedule-Id"] for one in sent} == {"scd_1"}


async def test_new_keys_sign_from_the_next_attempt_on(start: Start, subscriber: Subscriber) -> None:
    broker, dispatcher = await start(keys=SigningKeys("sig_" + 30 * "1", "sig_" + 30 * "2"))
    rotated = broker.rotate_keys()
    broker.publish(PublishRequest(subscriber.url, Template(body=b"x")))
    dispatcher.wake()
    await eventually(lambda: len(subscriber.seen) == 1 and not broker.messages(Filter()))
    token = subscriber.seen[0][2]["Upstash-Signature"]
    Receiver(rotated.current, rotated.next).verify(signature=token, body="x", url=subscriber.url)


async def test_a_redirect_is_a_response_like_another_and_is_not_followed(
    start: Start, subscriber: Subscriber
) -> None:
    broker, dispatcher = await start()
    subscriber.answers = [web.Response(status=302, headers={"Location": "/elsewhere"})]
    broker.publish(PublishRequest(f"{subscriber.url}/here", Template(retries=0)))
    dispatcher.wake()
    await eventually(lambda: broker.dlq.find(Filter()))
    assert [path for _, path, _, _ in subscriber.seen] == ["/here"]
    assert broker.dlq.find(Filter())[0].result.status == 302


async def test_a_response_is_kept_with_its_headers_and_the_beginning_of_its_body(
    start: Start, subscriber: Subscriber
) -> None:
    broker, dispatcher = await start()
    headers = {"X-Why": "because"}
    subscriber.answers = [web.Response(status=500, headers=headers, body=b"x" * (MAX_BYTES + 999))]
    broker.publish(PublishRequest(subscriber.url, Template(retries=0)))
    dispatcher.wake()
    await eventually(lambda: broker.dlq.find(Filter()))
    answer = broker.dlq.find(Filter())[0].result
    assert answer.body == b"x" * MAX_BYTES
    assert dict(answer.headers)["X-Why"] == "because"


async def test_a_slow_missing_or_invalid_destination_is_a_failed_attempt(
    start: Start, subscriber: Subscriber
) -> None:
    broker, dispatcher = await start()
    subscriber.waits = asyncio.Event()
    for url in (subscriber.url, f"http://127.0.0.1:{free_port()}/", "http://a b/", "http://[/"):
        broker.publish(PublishRequest(url, Template(retries=0, timeout=0.2)))
    dispatcher.wake()
    await eventually(lambda: len(broker.dlq.find(Filter())) == 4)
    subscriber.waits.set()
    errors = {one.message.url: one.result.error for one in broker.dlq.find(Filter())}
    assert errors[subscriber.url] == "no response within 0.2 s"
    assert all(errors.values())


async def test_a_slow_destination_holds_up_no_other(start: Start, subscriber: Subscriber) -> None:
    broker, dispatcher = await start()
    subscriber.waits = asyncio.Event()
    broker.publish(PublishRequest(f"{subscriber.url}/slow", Template()))
    dispatcher.wake()
    await eventually(lambda: len(subscriber.seen) == 1)
    broker.publish(PublishRequest(f"{subscriber.url}/other", Template()))
    dispatcher.wake()
    await eventually(lambda: len(subscriber.seen) == 2)
    subscriber.waits.set()
    await eventually(lambda: not broker.messages(Filter()))


async def test_changes_that_cannot_be_saved_now_do_not_stop_the_dispatcher(
    start: Start, subscriber: Subscriber
) -> None:
    failures = [StreamUnavailableError("gone"), TimeoutError()]

    async def save() -> None:
        if failures:
            raise failures.pop()

    broker, dispatcher = await start(save)
    broker.publish(PublishRequest(subscriber.url, Template()))
    dispatcher.wake()
    await eventually(lambda: not broker.messages(Filter()))
    assert failures == []


async def test_an_attempt_under_way_is_left_to_the_next_start(
    start: Start, subscriber: Subscriber
) -> None:
    broker, dispatcher = await start()
    subscriber.waits = asyncio.Event()
    (receipt,) = broker.publish(PublishRequest(subscriber.url, Template()))
    dispatcher.wake()
    await eventually(lambda: len(subscriber.seen) == 1)
    await dispatcher.stop()
    subscriber.waits.set()
    assert broker.message(receipt.message_id).retried == 0


async def test_stopping_ends_a_task_that_swallows_its_first_cancellation(
    subscriber: Subscriber,
) -> None:
    saving, swallowed = asyncio.Event(), asyncio.Event()

    async def save() -> None:
        saving.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            if swallowed.is_set():
                raise
            swallowed.set()  # as asyncio.wait_for can do in Python 3.11

    broker = Broker(State())
    dispatcher = Dispatcher(broker, save)
    running = dispatcher.start()
    await saving.wait()
    async with asyncio.timeout(10):
        await dispatcher.stop()
    assert swallowed.is_set()
    assert running.cancelled()


async def test_a_response_with_bytes_that_are_not_text_can_be_saved(
    start: Start, subscriber: Subscriber
) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nX-Name: caf\xe9\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        writer.close()

    broker, dispatcher = await start()
    callback = CallbackTarget(f"{subscriber.url}/callback")
    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        broker.publish(PublishRequest(f"http://127.0.0.1:{port}/", Template(callback=callback)))
        dispatcher.wake()
        await eventually(lambda: subscriber.seen and not broker.messages(Filter()))
    for entry in broker.log.find(Filter()):
        msgspec.msgpack.encode(entry)
    assert msgspec.json.decode(subscriber.seen[0][3])["header"]["X-Name"] == ["caf\ufffd"]


@pytest.mark.parametrize("failing", [1, 2])
async def test_an_error_of_ours_ends_the_dispatcher(subscriber: Subscriber, failing: int) -> None:
    calls = 0

    async def save() -> None:
        nonlocal calls
        calls += 1
        if calls == failing:
            raise RuntimeError("a fault of ours")

    broker = Broker(State())
    broker.publish(PublishRequest(subscriber.url, Template()))
    dispatcher = Dispatcher(broker, save)
    running = dispatcher.start()
    try:
        with pytest.raises(RuntimeError, match="a fault of ours"):
            await asyncio.wait_for(running, 10)
    finally:
        await dispatcher.stop()


async def test_a_started_attempt_is_saved_before_it_is_sent(
    start: Start, subscriber: Subscriber
) -> None:
    seen_when_written: list[int] = []

    async def save() -> None:
        if broker.active and not seen_when_written:
            await asyncio.sleep(0.3)  # as long as an attempt would take
            seen_when_written.append(len(subscriber.seen))

    broker, dispatcher = await start(save)
    broker.publish(PublishRequest(subscriber.url, Template()))
    dispatcher.wake()
    await eventually(lambda: not broker.messages(Filter()))
    assert seen_when_written == [0]


async def test_a_message_that_is_cancelled_while_it_is_saved_is_not_sent(
    start: Start, subscriber: Subscriber
) -> None:
    async def save() -> None:
        if broker.active:
            broker.cancel(Filter(urls=(f"{subscriber.url}/cancelled",)))

    broker, dispatcher = await start(save)
    broker.publish(PublishRequest(f"{subscriber.url}/cancelled", Template()))
    broker.publish(PublishRequest(f"{subscriber.url}/other", Template()))
    dispatcher.wake()
    await eventually(lambda: subscriber.seen and not broker.active)
    assert [path for _, path, _, _ in subscriber.seen] == ["/other"]


async def test_a_clock_that_jumps_is_noticed(
    start: Start, subscriber: Subscriber, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatcher_module, "LOOK_AGAIN", 0.1)
    ahead = 0.0
    broker, dispatcher = await start(clock=lambda: time.time() + ahead, scale=1)
    broker.publish(PublishRequest(subscriber.url, Template(), delay_ms=3_600_000))
    dispatcher.wake()
    await asyncio.sleep(0.05)
    ahead = 3600.0
    await eventually(lambda: not broker.messages(Filter()))
    assert len(subscriber.seen) == 1


async def test_a_cookie_of_one_answer_is_not_sent_with_another_message(
    start: Start, subscriber: Subscriber
) -> None:
    broker, dispatcher = await start()
    by_name = subscriber.url.replace("127.0.0.1", "localhost")
    for _ in range(2):
        subscriber.answers = [web.Response(headers={"Set-Cookie": "session=1; Path=/"})]
        broker.publish(PublishRequest(by_name, Template()))
        dispatcher.wake()
        await eventually(lambda: not broker.messages(Filter()))
    assert ["Cookie" in headers for _, _, headers, _ in subscriber.seen] == [False, False]
