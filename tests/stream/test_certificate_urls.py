"""The URLs of certificates in Redis: few, the latest, and not for ever."""

from __future__ import annotations

import redis

from hookmill.stream.certificate_urls import KEPT_FOR, MOST, CertificateUrls
from hookmill.stream.producer import Producer


async def test_the_urls_that_were_noted_last_are_kept(
    stream: Producer, redis_client: redis.Redis, prefix: str
) -> None:
    urls = CertificateUrls(stream.client)
    assert await urls.read() == []
    await urls.note(["https://a/first"], 1.0)
    for number in range(MOST):
        await urls.note([f"https://a/{number}"], 2.0 + number)
    await urls.note(["https://a/0"], 1000.0)
    await urls.note(["https://a/\udcff", "https://a/new"], 2000.0)
    found = await urls.read()
    assert len(found) == MOST
    assert found[-3:] == ["https://a/0", "https://a/?", "https://a/new"]
    assert "https://a/first" not in found
    key = f"{prefix}:{{0}}:certificate-urls"
    assert redis_client.hlen(key) == MOST
    assert 0 < int(redis_client.ttl(key)) <= KEPT_FOR
