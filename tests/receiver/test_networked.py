"""Deliveries that need a certificate, through a whole receiver: real HTTP in, real HTTPS out."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from typing import Any

import aiohttp
import pytest
import redis
import structlog
from aiohttp import web

from hookmill.config.settings import Settings
from hookmill.config.source_options import SourceOptions
from hookmill.config.sources import sources_of
from hookmill.message import Message
from hookmill.signatures.paypal import PayPal
from hookmill.stream.certificate_urls import CertificateUrls
from hookmill.stream.producer import Producer
from receiver.app import Receiver
from receiver.certificate_budget import AT_ONCE
from tests.authority import Issuer
from tests.receiver.certificate_servers import World
from tests.signatures import paypal_deliveries as paypal
from tests.signatures import sns_messages as sns
from tests.support import eventually

NOW = time.time()
SNS_LEAF = Issuer("SNS", NOW).issue(["sns.amazonaws.com"], sns.KEY)
ROOT = Issuer("Root", NOW)
PAYPAL_LEAF = ROOT.issue([paypal.NAME], paypal.KEY)


class Line:
    """A receiver for SNS and PayPal, and what is in its stream."""

    def __init__(self, base: str, client: redis.Redis, key: str) -> None:
        self.base = base
        self._client = client
        self._key = key

    async def post(self, path: str, body: bytes, headers: Any = None) -> int:
        async with (
            aiohttp.ClientSession() as session,
            session.post(self.base + path, data=body, headers=headers) as answer,
        ):
            return answer.status

    def stored(self) -> list[tuple[str, str]]:
        rows: Any = self._client.xrange(self._key)
        messages = [Message.from_fields(fields) for _, fields in rows]
        return [(message.id, message.type) for message in messages]


@pytest.fixture
async def line(
    world: World,
    stream: Producer,
    settings: Callable[..., Settings],
    redis_client: redis.Redis,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[Line]:
    monkeypatch.setattr("hookmill.config.sources.system_roots", lambda: ROOT.pem)
    tables = {
        "sns": SourceOptions(topics=(sns.TOPIC,)),
        "paypal": SourceOptions(webhook_ids=(paypal.WEBHOOK,)),
    }
    made = settings(sources=tables)
    receiver = Receiver(made, sources_of(made), stream, world.certificates())
    port = await receiver.start()
    yield Line(f"http://127.0.0.1:{port}", redis_client, stream.partitions[0].stream)
    await receiver.stop()


def stamp() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")


async def test_an_sns_notification_is_stored_under_its_signed_id(world: World, line: Line) -> None:
    world.publish(sns.URL, SNS_LEAF)
    body = sns.sign(sns.message(Timestamp=stamp()))
    assert await line.post("/sns", body) == 200
    assert await line.post("/sns", body.replace(b"second line", b"second lie!")) == 401
    other = sns.sign(sns.message(Timestamp=stamp(), TopicArn=sns.OTHER_TOPIC))
    assert await line.post("/sns", other) == 401
    assert line.stored() == [("22b80b92-fdea-4c2c-8f9d-bdfb0c7bf324", "orders")]
    assert world.requests == [sns.URL]


async def test_without_its_certificate_a_delivery_is_to_be_sent_again(
    world: World, line: Line
) -> None:
    body = sns.sign(sns.message(Timestamp=stamp()))
    assert await line.post("/sns", body) == 503  # there is no certificate, so it cannot be verified
    assert line.stored() == []
    world.publish(sns.URL, SNS_LEAF)
    world.clock.now += 60
    assert await line.post("/sns", body) == 200


async def test_a_flood_of_forged_deliveries_floods_neither_others_nor_the_log(
    world: World, line: Line
) -> None:
    def forged(number: int) -> bytes:
        url = sns.URL.replace(".pem", f"{number}.pem")
        return sns.sign(sns.message(Timestamp=stamp(), SigningCertURL=url))

    with structlog.testing.capture_logs() as logs:
        answers = await asyncio.gather(*(line.post("/sns", forged(n)) for n in range(200)))
    assert set(answers) == {503}
    assert len(world.requests) <= AT_ONCE
    assert len(logs) < 60
    assert line.stored() == []


async def test_after_a_restart_forged_deliveries_do_not_keep_the_genuine_one_out(
    world: World, stream: Producer, settings: Callable[..., Settings], line: Line
) -> None:
    world.publish(sns.URL, SNS_LEAF)
    assert await line.post("/sns", sns.sign(sns.message(Timestamp=stamp()))) == 200
    await eventually(CertificateUrls(stream.client).read)
    made = settings(sources={"sns": SourceOptions(topics=(sns.TOPIC,))})
    certificates = world.certificates()
    restarted = Receiver(made, sources_of(made), stream, certificates)
    again = Line(f"http://127.0.0.1:{await restarted.start()}", line._client, line._key)
    await eventually(lambda: certificates._proven)
    for number in range(3 * AT_ONCE):
        url = sns.URL.replace(".pem", f"{number}.pem")
        forged = sns.sign(sns.message(Timestamp=stamp(), SigningCertURL=url))
        assert await again.post("/sns", forged) == 503
    assert await again.post("/sns", sns.sign(sns.message(Timestamp=stamp()))) == 200
    await restarted.stop()


async def test_a_flood_in_the_name_of_one_sender_does_not_keep_the_other_out(
    world: World, line: Line
) -> None:
    world.publish(paypal.URL, PAYPAL_LEAF)
    for number in range(AT_ONCE + 5):
        url = sns.URL.replace(".pem", f"{number}.pem")
        forged = sns.sign(sns.message(Timestamp=stamp(), SigningCertURL=url))
        assert await line.post("/sns", forged) == 503
    sent = paypal.headers(time=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"))
    assert await line.post("/paypal", paypal.BODY, sent) == 200


async def test_a_subscription_is_confirmed_and_stores_nothing(world: World, line: Line) -> None:
    world.publish(sns.URL, SNS_LEAF)
    asked: list[str] = []

    async def confirm(request: web.BaseRequest) -> web.StreamResponse:
        asked.append(request.raw_path)
        return web.Response(status=200 if len(asked) > 1 else 500)

    world.answers[sns.CONFIRM] = confirm
    body = sns.sign(sns.question(Timestamp=stamp()))
    assert await line.post("/sns", body.replace(b"chosen", b"choosen")) == 401
    assert asked == []  # a forged delivery causes no request
    assert await line.post("/sns", body) == 503
    world.clock.now += 60
    assert await line.post("/sns", body) == 200
    assert len(asked) == 2
    assert line.stored() == []


async def test_a_paypal_delivery_is_stored_under_its_transmission_id(
    world: World, line: Line
) -> None:
    world.publish(paypal.URL, PAYPAL_LEAF)
    sent = paypal.headers(time=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"))
    assert await line.post("/paypal", paypal.BODY, sent) == 200
    assert await line.post("/paypal", paypal.BODY + b" ", sent) == 401
    # Only a CRC32 of the body is signed, so this forgery verifies. It has the same ID: a duplicate.
    forged = paypal.with_crc_of(b'{"event_type":"FORGED"}', paypal.BODY)
    assert await line.post("/paypal", forged, sent) == 200
    transmission = paypal.TRANSMISSION
    assert {message_id for message_id, _ in line.stored()} == {transmission}
    assert line.stored()[0] == (transmission, "PAYMENT.SALE.COMPLETED")


def test_paypals_scheme_trusts_the_systems_authorities(
    settings: Callable[..., Settings],
) -> None:
    (source,) = sources_of(settings(sources={"paypal": SourceOptions(webhook_ids=("W1",))}))
    assert isinstance(source.scheme, PayPal)
    assert source.scheme.labels == ["webhook W1"]
