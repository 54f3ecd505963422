"""URLs of good certificates outlive the receiver, also where Redis was away."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from hookmill.config.settings import Settings
from hookmill.config.source_options import SourceOptions
from hookmill.config.sources import Source, sources_of
from hookmill.errors import CertificateUnavailableError
from hookmill.signatures.scheme import NetworkScheme, Verified
from hookmill.stream.certificate_urls import CertificateUrls
from hookmill.stream.producer import Producer
from receiver import certificate_memory
from receiver.certificate_budget import AT_ONCE
from receiver.certificate_memory import CertificateMemory
from receiver.certificates import Certificates
from tests.receiver.certificate_servers import URL, World, notification
from tests.signatures import sns_messages as sns
from tests.support import Server, Stream, eventually


@pytest.fixture
def sources(settings: Callable[..., Settings]) -> list[Source]:
    return sources_of(settings(sources={"sns": SourceOptions(topics=(sns.TOPIC,))}))


def scheme_of(sources: list[Source]) -> NetworkScheme:
    (source,) = sources
    assert isinstance(source.scheme, NetworkScheme)
    return source.scheme


async def flooded(certificates: Certificates) -> Certificates:
    for number in range(AT_ONCE + 1):
        with pytest.raises(CertificateUnavailableError):
            await certificates.fetch(f"https://{sns.HOST}/forged-{number}.pem")
    return certificates


async def test_after_a_restart_a_flood_does_not_keep_a_proven_certificate_out(
    world: World,
    stream: Producer,
    sources: list[Source],
    settings: Callable[..., Settings],
) -> None:
    world.publish(URL, sns.CERTIFICATE)
    certificates = world.certificates()
    memory = CertificateMemory(stream.client, certificates)
    memory.replace_sources(sources)
    memory.start()
    await certificates.judge(scheme_of(sources), notification(), sns.NOW)
    await memory.stop()
    assert await CertificateUrls(stream.client).read() == [URL]

    again = sources_of(settings(sources={"sns": SourceOptions(topics=(sns.TOPIC,))}))
    flooded_ones = await flooded(world.certificates())
    with pytest.raises(CertificateUnavailableError, match="not fetched yet"):
        await flooded_ones.judge(scheme_of(again), notification(), sns.NOW)
    memory = CertificateMemory(stream.client, flooded_ones)
    memory.replace_sources(again)
    memory.start()
    await eventually(lambda: flooded_ones._proven)
    assert await flooded_ones.judge(scheme_of(again), notification(), sns.NOW) == Verified(0)
    await memory.stop()


async def test_redis_may_be_away_at_the_start_and_when_a_url_has_proven_good(
    world: World,
    own_server: Callable[..., Server],
    sources: list[Source],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(certificate_memory, "PERIOD", 0.05)
    server = own_server()
    stream = Stream(server.url, "away", timeout=0.2)
    server.kill()
    world.publish(URL, sns.CERTIFICATE)
    certificates = world.certificates()
    memory = CertificateMemory(stream.client, certificates)
    memory.replace_sources(sources)
    memory.start()
    await certificates.judge(scheme_of(sources), notification(), sns.NOW)
    server.start()
    urls = CertificateUrls(stream.client)

    async def is_noted() -> bool:
        return await urls.read() == [URL]

    await eventually(is_noted)
    await memory.stop()
    await stream.close()


async def test_sources_without_certificates_ask_redis_for_nothing(
    settings: Callable[..., Settings], own_server: Callable[..., Server], world: World
) -> None:
    server = own_server()
    stream = Stream(server.url, "none")
    server.kill()
    memory = CertificateMemory(stream.client, world.certificates())
    memory.replace_sources(sources_of(settings(marble_webhook_secret="s" * 32)))
    memory.start()
    await memory.stop()
    assert not memory._is_read
    await stream.close()
