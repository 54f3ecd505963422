"""Certificates fetched over real HTTPS, from a local server with the names of the senders."""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult

from hookmill.errors import CertificateUnavailableError, NotConfirmedError
from hookmill.signatures.paypal import PayPal
from hookmill.signatures.scheme import NeedsCertificate, Refused, Signed, Verified
from hookmill.signatures.sns import SNS
from receiver import certificates as module
from receiver.certificates import (
    A_MINUTE,
    AT_ONCE,
    KEPT,
    KEPT_FAILURE,
    KNOWN_URLS,
    LARGEST,
    Certificates,
)
from tests.authority import Issuer, rsa_key, server_context
from tests.receiver.serving import ends
from tests.signatures import test_paypal as paypal
from tests.signatures import test_sns as sns
from tests.support import Clock, eventually

NAMES = (sns.HOST, "api.paypal.com", "api.sandbox.paypal.com")
URL = sns.URL
TLS = Issuer("TLS", time.time())  # TLS clients use the clock of the machine
Answer = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class Loopback(AbstractResolver):
    """Resolves every host to our server, and notes the hosts."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.asked: list[str] = []

    async def resolve(
        self,
        host: str,
        port: int = 0,  # noqa: ARG002 - aiohttp's
        family: socket.AddressFamily = socket.AF_INET,  # noqa: ARG002 - aiohttp's
    ) -> list[ResolveResult]:
        self.asked.append(host)
        return [
            ResolveResult(
                hostname=host,
                host="127.0.0.1",
                port=self._port,
                family=socket.AF_INET,
                proto=0,
                flags=0,
            )
        ]

    async def close(self) -> None:
        pass


class World:
    """The side of the senders: an HTTPS server, its answers, and the requests it got."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._runners: list[web.ServerRunner] = []
        self._made: list[Certificates] = []
        self.requests: list[str] = []
        self.clock = Clock()
        self.over = asyncio.Event()
        self.answers: dict[str, Answer] = {}
        self.resolver = Loopback(0)

    async def serve(self, names: Sequence[str] = NAMES, issuer: Issuer = TLS) -> None:
        key = rsa_key("tls")
        runner = web.ServerRunner(web.Server(self._answer, access_log=None), shutdown_timeout=0.1)
        await runner.setup()
        self._runners.append(runner)
        context = server_context(self._folder, issuer.issue(names, key), key)
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
        self.resolver = Loopback(int(runner.addresses[0][1]))

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        url = f"https://{request.host}{request.raw_path}"
        self.requests.append(url)
        assert request.headers["Accept-Encoding"] == "identity"
        answer = self.answers.get(url)
        return await answer(request) if answer else web.Response(status=404)

    def publish(self, url: str, body: bytes, status: int = 200, headers: Any = None) -> None:
        async def answer(_request: web.BaseRequest) -> web.StreamResponse:
            return web.Response(body=body, status=status, headers=headers)

        self.answers[url] = answer

    def certificates(self, trusted: Issuer = TLS) -> Certificates:
        context = ssl.create_default_context(cadata=trusted.pem.decode())
        made = Certificates(self.resolver, context, self.clock)
        self._made.append(made)
        return made

    async def hang(self, _request: web.BaseRequest) -> web.StreamResponse:
        await self.over.wait()
        return web.Response()

    async def close(self) -> None:
        self.over.set()
        for made in self._made:
            await made.close()
        for runner in self._runners:
            await runner.cleanup()


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    made = World(tmp_path)
    await made.serve()
    yield made
    await made.close()


def notification(**changes: Any) -> Signed:
    return sns.delivery(sns.sign(sns.message(**changes)))


# --- verifying a delivery ---


async def test_a_delivery_of_sns_is_judged_with_the_certificate_that_it_names(world: World) -> None:
    world.publish(URL, sns.CERTIFICATE)
    certificates, scheme = world.certificates(), SNS([sns.TOPIC])
    for _ in range(5):
        assert await certificates.judge(scheme, notification(), sns.NOW) == Verified(0)
    forged = notification()
    forged = forged._replace(body=forged.body.replace(b"second line", b"second lie!"))
    verdict = await certificates.judge(scheme, forged, sns.NOW)
    assert isinstance(verdict, Refused)
    assert verdict.code == "signature_mismatch"
    assert world.requests == [URL]


async def test_a_delivery_of_paypal_is_judged_with_the_certificate_that_it_names(
    world: World,
) -> None:
    world.publish(paypal.URL, paypal.CHAIN)
    certificates, scheme = world.certificates(), PayPal([paypal.WEBHOOK], paypal.ROOT.pem)
    sent = Signed(paypal.headers(), paypal.BODY)
    assert await certificates.judge(scheme, sent, paypal.NOW) == Verified(0)
    assert world.requests == [paypal.URL]
    assert world.resolver.asked == ["api.paypal.com"]


async def test_many_deliveries_at_once_need_one_request(world: World) -> None:
    gate = asyncio.Event()

    async def answer(_request: web.BaseRequest) -> web.StreamResponse:
        await gate.wait()
        return web.Response(body=sns.CERTIFICATE)

    world.answers[URL] = answer
    certificates, scheme = world.certificates(), SNS([sns.TOPIC])
    judged = [
        asyncio.create_task(certificates.judge(scheme, notification(MessageId=str(n)), sns.NOW))
        for n in range(50)
    ]
    await eventually(lambda: bool(world.requests))
    judged[0].cancel()  # its sender hung up; the others still wait
    gate.set()
    verdicts = await asyncio.gather(*judged[1:])
    assert verdicts == [Verified(0)] * 49
    assert world.requests == [URL]


@pytest.mark.parametrize("url", sns.ELSEWHERE)
async def test_no_other_host_is_ever_asked(world: World, url: str) -> None:
    verdict = await world.certificates().judge(
        SNS([sns.TOPIC]), notification(SigningCertURL=url), sns.NOW
    )
    assert isinstance(verdict, Refused)
    assert world.resolver.asked == []


async def test_no_certificate_is_fetched_for_a_wrong_topic_or_an_old_delivery(
    world: World,
) -> None:
    certificates = world.certificates()
    for delivery, now in (
        (notification(TopicArn=sns.OTHER_TOPIC), sns.NOW),
        (notification(), sns.NOW + 10_000),
    ):
        verdict = await certificates.judge(SNS([sns.TOPIC]), delivery, now)
        assert isinstance(verdict, Refused)
    assert world.resolver.asked == []


async def test_a_certificate_of_another_name_refuses_the_delivery(world: World) -> None:
    world.publish(URL, sns.ISSUER.issue(["evil.com"], sns.KEY))
    verdict = await world.certificates().judge(SNS([sns.TOPIC]), notification(), sns.NOW)
    assert isinstance(verdict, Refused)
    assert verdict.code == "certificate_not_theirs"


async def test_a_page_instead_of_a_certificate_does_not_refuse_the_delivery(
    world: World,
) -> None:
    world.publish(URL, b"<html>We are back soon</html>")
    certificates, scheme = world.certificates(), SNS([sns.TOPIC])
    with pytest.raises(CertificateUnavailableError):
        await certificates.judge(scheme, notification(), sns.NOW)
    world.publish(URL, sns.CERTIFICATE)
    world.clock.now += KEPT
    assert await certificates.judge(scheme, notification(), sns.NOW) == Verified(0)


# --- certificates that cannot be fetched ---


@pytest.mark.parametrize("status", [204, 301, 302, 307, 308, 403, 404, 429, 500, 503])
async def test_only_a_200_counts_and_no_redirect_is_followed(world: World, status: int) -> None:
    other = f"https://{sns.HOST}/other.pem"
    world.publish(URL, b"", status, {"Location": other})
    world.publish(other, sns.CERTIFICATE)
    with pytest.raises(CertificateUnavailableError, match=f"the answer was {status}"):
        await world.certificates().fetch(URL)
    assert world.requests == [URL]


async def test_an_answer_larger_than_the_limit_is_refused(world: World) -> None:
    world.publish(URL, b"x" * LARGEST)
    assert len(await world.certificates().fetch(URL)) == LARGEST
    world.publish(URL, b"x" * (LARGEST + 1))
    with pytest.raises(CertificateUnavailableError, match="more than 65536 bytes"):
        await world.certificates().fetch(URL)


async def test_an_answer_without_an_end_is_cut_off(world: World) -> None:
    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b"x" * 8192)

    world.answers[URL] = answer
    with pytest.raises(CertificateUnavailableError, match="more than 65536 bytes"):
        await world.certificates().fetch(URL)


async def test_a_small_answer_that_inflates_stays_small(world: World) -> None:
    packed = b"\x1f\x8b\x08" + b"\0" * 100
    world.publish(URL, packed, headers={"Content-Encoding": "gzip"})
    assert await world.certificates().fetch(URL) == packed


async def test_a_server_that_does_not_answer_is_given_up_after_the_timeout(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TIMEOUT", 0.2)

    world.answers[URL] = world.hang
    with pytest.raises(CertificateUnavailableError, match=r"no answer in 0\.2 s"):
        await world.certificates().fetch(URL)


async def test_a_server_that_is_down_is_unavailable(world: World) -> None:
    certificates = world.certificates()
    await world.close()
    with pytest.raises(CertificateUnavailableError) as caught:
        await certificates.fetch(URL)
    assert caught.value.code == "certificate_unavailable"


@pytest.mark.parametrize("names", [["evil.com"], ["sns.us-east-1.amazonaws.com"]])
async def test_a_server_with_another_name_is_not_believed(world: World, names: list[str]) -> None:
    await world.serve(names)
    world.publish(URL, sns.CERTIFICATE)
    with pytest.raises(CertificateUnavailableError):
        await world.certificates().fetch(URL)
    assert world.requests == []


async def test_a_server_of_an_authority_that_is_not_trusted_is_not_believed(world: World) -> None:
    await world.serve(issuer=Issuer("TLS", time.time()))
    world.publish(URL, sns.CERTIFICATE)
    with pytest.raises(CertificateUnavailableError):
        await world.certificates().fetch(URL)
    assert world.requests == []


async def test_the_machines_own_trust_is_the_default(world: World) -> None:
    certificates = Certificates(world.resolver)
    with pytest.raises(CertificateUnavailableError, match="certificate verify failed"):
        await certificates.fetch(URL)
    await certificates.close()


async def test_without_tls_no_certificate_is_fetched(world: World) -> None:
    with pytest.raises(CertificateUnavailableError, match="only https"):
        await world.certificates().fetch(URL.replace("https", "http"))
    assert world.resolver.asked == []


# --- few requests, whatever is delivered ---


async def test_an_answer_is_kept_for_a_while(world: World) -> None:
    world.publish(URL, b"one")
    certificates = world.certificates()
    assert await certificates.fetch(URL) == b"one"
    world.publish(URL, b"two")
    world.clock.now += KEPT - 1
    assert await certificates.fetch(URL) == b"one"
    world.clock.now += 1
    assert await certificates.fetch(URL) == b"two"


async def test_after_a_failure_the_same_is_not_asked_for_again_at_once(world: World) -> None:
    certificates = world.certificates()
    for _ in range(10):
        with pytest.raises(CertificateUnavailableError, match="the answer was 404"):
            await certificates.fetch(URL)
    assert len(world.requests) == 1
    world.publish(URL, b"now it is there")
    world.clock.now += KEPT_FAILURE
    assert await certificates.fetch(URL) == b"now it is there"


async def test_a_flood_of_urls_causes_few_requests_and_fills_no_memory(world: World) -> None:
    certificates = world.certificates()
    for number in range(500):
        with pytest.raises(CertificateUnavailableError):
            await certificates.fetch(f"https://{sns.HOST}/{number}.pem")
    assert len(world.requests) == A_MINUTE
    assert len(certificates._answers) <= A_MINUTE
    world.clock.now += 60
    world.publish(URL, b"later it goes on")
    assert await certificates.fetch(URL) == b"later it goes on"
    assert len(certificates._answers) == 1


async def test_a_known_url_is_fetched_despite_a_flood_of_others(world: World) -> None:
    world.publish(URL, sns.CERTIFICATE)
    certificates = world.certificates()
    scheme = SNS([sns.TOPIC], tolerance=1e9)
    assert await certificates.judge(scheme, notification(), sns.NOW) == Verified(0)
    world.clock.now += 86_400
    for number in range(2 * A_MINUTE):
        with pytest.raises(CertificateUnavailableError):
            await certificates.fetch(f"https://{sns.HOST}/{number}.pem")
    tomorrow = sns.NOW + 86_400
    assert scheme.verify(notification(), tomorrow) == NeedsCertificate(URL)
    assert await certificates.judge(scheme, notification(), tomorrow) == Verified(0)


async def test_few_known_urls_are_remembered(world: World) -> None:
    certificates, scheme = world.certificates(), SNS([sns.TOPIC])
    for number in range(KNOWN_URLS + 5):
        world.clock.now += 60
        url = f"https://{sns.HOST}/{number}.pem"
        world.publish(url, sns.CERTIFICATE)
        delivery = notification(SigningCertURL=url)
        assert await certificates.judge(scheme, delivery, sns.NOW) == Verified(0)
    assert len(certificates._known) == KNOWN_URLS


async def test_few_requests_run_at_once(world: World) -> None:
    gate, here, most = asyncio.Event(), 0, 0

    async def answer(_request: web.BaseRequest) -> web.StreamResponse:
        nonlocal here, most
        here += 1
        most = max(most, here)
        await gate.wait()
        here -= 1
        return web.Response(body=b"there")

    urls = [f"https://{sns.HOST}/{number}.pem" for number in range(3 * AT_ONCE)]
    world.answers = dict.fromkeys(urls, answer)
    certificates = world.certificates()
    fetches = [asyncio.create_task(certificates.fetch(url)) for url in urls]
    await eventually(lambda: here == AT_ONCE)
    gate.set()
    assert await asyncio.gather(*fetches) == [b"there"] * len(urls)
    assert most == AT_ONCE


async def test_closing_cancels_the_running_requests(world: World) -> None:
    world.answers[URL] = world.hang
    certificates = world.certificates()
    waiting = asyncio.create_task(certificates.fetch(URL))
    await eventually(lambda: bool(world.requests))
    await certificates.close()
    with pytest.raises(CertificateUnavailableError, match="stopping"):
        await waiting


async def test_closing_ends_a_request_whose_first_cancellation_is_swallowed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificates = world.certificates()
    begun, swallowed = asyncio.Event(), 0

    async def get(_url: str) -> bytes:
        nonlocal swallowed
        begun.set()
        while not swallowed:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                swallowed += 1
        await asyncio.sleep(60)
        return b""

    monkeypatch.setattr(certificates, "_get", get)
    waiting = asyncio.create_task(certificates.fetch(URL))
    await begun.wait()
    assert await ends(certificates.close(), within=4)  # a request may take longer
    assert swallowed == 1
    with pytest.raises(CertificateUnavailableError, match="stopping"):
        await waiting


# --- confirming ---


async def test_a_subscription_is_confirmed_where_sns_asks_for_it(world: World) -> None:
    world.publish(URL, sns.CERTIFICATE)
    world.publish(sns.CONFIRM, b"<ConfirmSubscriptionResponse/>")
    certificates, scheme = world.certificates(), SNS([sns.TOPIC])
    asked = sns.delivery(sns.sign(sns.question()))
    assert await certificates.judge(scheme, asked, sns.NOW) == Verified(0)
    url = scheme.confirmation_of(asked.body)
    assert url is not None
    await certificates.confirm(url)
    assert world.requests == [URL, sns.CONFIRM]


@pytest.mark.parametrize("status", [302, 400, 500])
async def test_a_subscription_that_cannot_be_confirmed_says_so_without_its_token(
    world: World, status: int
) -> None:
    world.publish(sns.CONFIRM, b"", status, {"Location": URL})
    certificates = world.certificates()
    with pytest.raises(NotConfirmedError) as caught:
        await certificates.confirm(sns.CONFIRM)
    assert str(caught.value) == f"{sns.HOST}: the answer was {status}"
    assert world.requests == [sns.CONFIRM]
    world.publish(sns.CONFIRM, b"")
    await certificates.confirm(sns.CONFIRM)  # a second attempt is possible


async def test_an_answer_that_is_no_http_shows_no_token(world: World) -> None:
    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.write(b"SSH-2.0-nothing\r\n\r\n")
        request.transport.close()
        return web.Response()

    world.answers[sns.CONFIRM] = answer
    with pytest.raises(NotConfirmedError) as caught:
        await world.certificates().confirm(sns.CONFIRM)
    assert "2336412f37fb687f" not in str(caught.value)
