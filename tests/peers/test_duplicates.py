"""Cases in which others run a message twice: its sender delivers it twice."""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import aiohttp
import pytest
import redis

from hookmill.config.sources import sources_of
from hookmill.debug.fixtures import marble_headers, qstash_headers
from hookmill.signatures import Scheme
from hookmill.signatures.marble import marble_scheme
from hookmill.signatures.qstash import QStash
from hookmill.stream.producer import Producer
from hookmill.stream.upkeep import Upkeep
from receiver.app import Receiver
from receiver.main import stream_of
from tests.peers.view import View
from tests.peers.work import MakeSettings, Work, Workers, names, on_one_server
from tests.support import CURRENT_KEY, MARBLE_SECRET, Server, Stream, eventually, signed_headers

Deliver = Callable[..., Awaitable[list[int]]]


QSTASH = QStash([CURRENT_KEY])
MARBLE = marble_scheme([MARBLE_SECRET])


def post(scheme: Scheme, path: str, body: bytes, headers: dict[str, str]) -> dict[str, Any]:
    """What to give to a client's `post`, signed afresh as a sender signs each try."""
    return {"data": body, "headers": headers | signed_headers(scheme, body, path)}


def order(message_id: str) -> dict[str, Any]:
    body = b'{"type":"order.paid","order_id":"%b"}' % message_id.encode()
    return post(QSTASH, "/qstash", body, qstash_headers(body, message_id))


@pytest.fixture
async def deliver(settings: MakeSettings) -> AsyncIterator[Deliver]:
    """Receivers that take turns, as behind a load balancer: `await deliver(*posts, path=...)`
    sends all at once and returns the statuses.
    """
    keys = {"qstash_current_signing_key": CURRENT_KEY, "marble_webhook_secret": MARBLE_SECRET}
    opened: list[tuple[Receiver, Producer]] = []
    ports: list[int] = []
    http = aiohttp.ClientSession()

    async def start(**options: Any) -> None:
        given = settings(**keys, **options)
        stream = stream_of(given)
        receiver = Receiver(given, sources_of(given), stream)
        opened.append((receiver, stream))
        ports.append(await receiver.start())

    async def send_one(number: int, path: str, request: dict[str, Any]) -> int:
        url = f"http://127.0.0.1:{ports[number % len(ports)]}{path}"
        async with http.post(url, **request) as answer:
            return answer.status

    async def deliver_all(
        *requests: dict[str, Any], path: str = "/qstash", **options: Any
    ) -> list[int]:
        while len(ports) < 2:
            await start(**options)
        sending = (send_one(n, path, request) for n, request in enumerate(requests))
        return list(await asyncio.gather(*sending))

    yield deliver_all
    await http.close()
    for receiver, opened_stream in opened:
        await receiver.stop()
        await opened_stream.client.close()


async def test_deliveries_of_one_id_at_the_same_moment_run_once(
    stream: Producer, workers: Workers, deliver: Deliver, view: View
) -> None:
    """stellarBank/StellarBank#39, argoproj/argo-events#2682: near-simultaneous copies, at several
    replicas, all pass the check before one of them is remembered.
    """
    work = Work()
    for _ in range(3):
        workers.start(work.handlers)
    copies = [order(message_id) for message_id in names(25) for _ in range(4)]
    assert Counter(await deliver(*copies)) == {200: 100}
    await eventually(lambda: len(work.done) == 25)
    await view.drained()
    assert work.began == Counter(names(25))


async def test_a_duplicate_of_a_handled_delivery_does_not_run_again(
    stream: Producer, workers: Workers, deliver: Deliver, view: View
) -> None:
    """hibiken/asynq#369, zenml-io/zenml#5215: an ID is unique only until its job has completed,
    so the sender's late retry starts another one.
    """
    work = Work()
    workers.start(work.handlers)
    assert await deliver(order("m")) == [200]
    await eventually(lambda: work.done["m"])
    await view.drained()
    # Nothing of it is left in the stream.
    assert await Upkeep(stream.client, "main").trim(retention=0) == 1
    assert await deliver(order("m"), order("m")) == [200, 200]
    assert await deliver(order("later")) == [200]
    await eventually(lambda: work.done["later"])
    await view.drained()
    assert work.began == {"m": 1, "later": 1}


@on_one_server
async def test_a_delivery_that_was_stored_but_never_answered_runs_once_when_it_is_sent_again(
    own_server: Callable[..., Server], settings: MakeSettings, deliver: Deliver
) -> None:
    """zenml-io/zenml#5215: the sender got no answer in time and sends again; both were taken."""
    server = own_server()
    there = {"redis_url": server.url, "append_timeout": 0.3}
    assert await deliver(order("before"), order("too"), **there) == [200, 200]
    server.signal(signal.SIGSTOP)
    assert await deliver(order("m"), order("m")) == [503, 503]
    server.signal(signal.SIGCONT)
    stream = Stream(server.url, settings().prefix)
    with redis.Redis.from_url(server.url) as client:
        # The receiver gave these appends up, but Redis carried them out.
        await eventually(lambda: client.xlen(stream.partitions[0].stream) == 4)
        assert await deliver(order("m")) == [200]
        work, there_too = Work(), Workers(settings)
        there_too.start(work.handlers, redis_url=server.url)
        await eventually(lambda: work.done["m"])
        await View(client, settings().prefix).drained()
        await there_too.stop()
    await stream.close()
    assert work.began == {"before": 1, "too": 1, "m": 1}


@pytest.mark.parametrize("body", [b"", b'{"event":"ping"}'], ids=["no body", "a constant body"])
@pytest.mark.parametrize("sender", ["qstash", "marble"])
async def test_deliveries_without_an_id_run_each_though_they_look_alike(
    stream: Producer,
    workers: Workers,
    deliver: Deliver,
    view: View,
    sender: str,
    body: bytes,
) -> None:
    """Abilityai/trinity#1437: a key made of the body swallowed every ping but the first, for a
    day, with a 202.
    """
    scheme: Scheme = QSTASH if sender == "qstash" else MARBLE
    make = qstash_headers if sender == "qstash" else marble_headers
    headers = make(body, "")
    headers.pop("Upstash-Message-Id", None)
    work = Work()
    workers.start(work.handlers)
    path = f"/{sender}"
    pings = [post(scheme, path, body, headers) for _ in range(3)]
    assert await deliver(*pings, path=path) == [200, 200, 200]
    await eventually(lambda: len(work.done) == 3)
    await view.drained()
    assert set(work.began.values()) == {1}
