"""Certificates: few requests and little memory, whatever is delivered."""

from __future__ import annotations

import asyncio
import time

import pytest
from aiohttp import web

from hookmill.errors import CertificateUnavailableError
from hookmill.signatures.scheme import NeedsCertificate, Refused, Verified
from hookmill.signatures.sns import SNS
from receiver import certificate_budget
from receiver.certificates import AT_ONCE, KEPT, KEPT_FAILURE, KNOWN_URLS, Certificates
from tests.receiver.certificate_servers import URL, World, notification
from tests.receiver.serving import ends
from tests.signatures import sns_messages as sns
from tests.support import eventually


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
    assert len(world.requests) == certificate_budget.AT_ONCE
    assert len(certificates._answers) <= certificate_budget.AT_ONCE
    world.clock.now += 60
    world.publish(URL, b"later it goes on")
    assert await certificates.fetch(URL) == b"later it goes on"
    assert len(certificates._answers) == 1


async def flood(certificates: Certificates) -> None:
    """Have all requests of a minute spent."""
    for number in range(2 * certificate_budget.AT_ONCE):
        with pytest.raises(CertificateUnavailableError):
            await certificates.fetch(f"https://{sns.HOST}/{number}.pem")


async def test_a_url_that_has_proven_good_in_another_run_is_fetched_despite_a_flood(
    world: World,
) -> None:
    world.publish(URL, sns.CERTIFICATE)
    certificates, scheme = world.certificates(), SNS([sns.TOPIC])
    certificates.trust([URL, f"https://{sns.HOST}/old.pem"])
    await flood(certificates)
    assert await certificates.judge(scheme, notification(), sns.NOW) == Verified(0)


async def test_valid_certificates_that_forgers_name_do_not_displace_those_that_have_verified(
    world: World,
) -> None:
    world.publish(URL, sns.CERTIFICATE)
    certificates, scheme = world.certificates(), SNS([sns.TOPIC])
    certificates.trust([URL])
    for number in range(KNOWN_URLS + 1):
        world.clock.now += 60
        url = f"https://{sns.HOST}/valid-{number}.pem"
        world.publish(url, sns.CERTIFICATE)
        forged = notification(SigningCertURL=url)
        forged = forged._replace(body=forged.body.replace(b"second line", b"second lie!"))
        assert isinstance(await certificates.judge(scheme, forged, sns.NOW), Refused)
    assert not scheme.proven_urls
    await flood(certificates)
    assert await certificates.judge(scheme, notification(), sns.NOW) == Verified(0)
    assert list(scheme.proven_urls) == [URL]


async def test_what_had_to_wait_is_fetched_later_and_verifies_the_next_delivery(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(certificate_budget, "PAUSE", 0.02)
    world.publish(URL, sns.CERTIFICATE)
    certificates, scheme = world.certificates(), SNS([sns.TOPIC])
    await flood(certificates)
    for number in range(5):  # these wait too
        forged = notification(SigningCertURL=f"https://{sns.HOST}/{number}00.pem")
        with pytest.raises(CertificateUnavailableError, match="not fetched yet"):
            await certificates.judge(scheme, forged, sns.NOW)
    with pytest.raises(CertificateUnavailableError, match="not fetched yet"):
        await certificates.judge(scheme, notification(), sns.NOW)
    monkeypatch.setattr(time, "time", lambda: sns.NOW)
    await eventually(lambda: scheme.verify(notification(), sns.NOW) == Verified(0))
    await eventually(lambda: certificates._serving is None or certificates._serving.done())
    assert len(world.requests) == certificate_budget.AT_ONCE + 6


async def test_a_known_url_is_fetched_despite_a_flood_of_others(world: World) -> None:
    world.publish(URL, sns.CERTIFICATE)
    certificates = world.certificates()
    scheme = SNS([sns.TOPIC], tolerance=1e9)
    assert await certificates.judge(scheme, notification(), sns.NOW) == Verified(0)
    world.clock.now += 86_400
    await flood(certificates)
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
    assert len(certificates._valid) == KNOWN_URLS
    assert len(scheme.proven_urls) == KNOWN_URLS
    certificates.trust(f"https://{sns.HOST}/{number}.pem" for number in range(2 * KNOWN_URLS))
    assert len(certificates._proven) == KNOWN_URLS


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
    certificates.trust(urls)  # more than may be requested of unknown ones
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
