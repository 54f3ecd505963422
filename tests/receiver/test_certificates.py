"""Certificates fetched over real HTTPS, from a local server with the names of the senders."""

from __future__ import annotations

import asyncio
import time

import pytest
from aiohttp import web

from hookmill.errors import CertificateUnavailableError, NotConfirmedError
from hookmill.signatures.paypal import PayPal
from hookmill.signatures.scheme import Refused, Signed, Verified
from hookmill.signatures.sns import SNS
from receiver import certificates as module
from receiver.certificates import KEPT, LARGEST, Certificates
from tests.authority import Issuer
from tests.receiver.certificate_servers import URL, World, notification
from tests.signatures import paypal_deliveries as paypal
from tests.signatures import sns_messages as sns
from tests.support import eventually

ELSEWHERE = sns.TOPIC.replace("eu-west-1", "us-east-1")

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


async def test_no_certificate_is_fetched_for_another_region_or_an_old_delivery(
    world: World,
) -> None:
    certificates, elsewhere = world.certificates(), SNS([ELSEWHERE])
    for scheme, now in ((elsewhere, sns.NOW), (SNS([sns.TOPIC]), sns.NOW + 10_000)):
        verdict = await certificates.judge(scheme, notification(), now)
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
