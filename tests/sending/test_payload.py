"""The body and the signature that the subscriber receives."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from hookmill.signatures import Verified
from hookmill.signatures.presets import PRESETS
from hookmill.signatures.spec_verifier import SpecVerifier
from tests.scripted import Scripted
from tests.sending.helpers import (
    POST,
    SECRET,
    URL,
    WHSEC,
    Open,
    received,
)


async def test_the_body_has_the_form_that_the_schemes_subscribers_expect(sender_to: Open) -> None:
    async with Scripted() as server:
        sender = sender_to(server)
        before = datetime.now(UTC)
        await sender.send(URL, POST, secret=SECRET, scheme="marble")
        await sender.send(URL, POST, secret=WHSEC, scheme="standard-webhooks")
        await sender.send(URL, POST)
        await sender.send(URL, {"any": ["thing"]})
        await sender.send(URL, b"\x00\xff")

    marble, *others, plain, binary = (call.body for call in server.calls)
    assert marble == '{"event":"post.published","data":{"id":"1","title":"ä"}}'.encode()
    for body in others:
        said = json.loads(body)
        assert list(said) == ["type", "timestamp", "data"]
        assert (said["type"], said["data"]) == ("post.published", {"id": "1", "title": "ä"})
        assert before <= datetime.fromisoformat(said["timestamp"]) <= datetime.now(UTC)
    assert (plain, binary) == (b'{"any":["thing"]}', b"\x00\xff")
    assert server.calls[-1].headers["Content-Type"] == "application/octet-stream"


SYMMETRIC = [
    name
    for name, preset in PRESETS.items()
    if preset.spec.algorithm not in ("ed25519", "ecdsa-p256")
]


@pytest.mark.parametrize("scheme", SYMMETRIC)
async def test_every_symmetric_scheme_signs_the_bytes_that_are_sent(
    sender_to: Open, scheme: str
) -> None:
    spec = PRESETS[scheme].spec
    secret = WHSEC if spec.key == "base64" else SECRET
    async with Scripted() as server:
        await sender_to(server).send(f"{URL}?a=1#f", POST, secret=secret, scheme=scheme)

    verdict = SpecVerifier(spec, [secret]).verify(received(server.only), time.time())
    assert verdict == Verified(0), verdict


async def test_the_id_that_is_signed_is_the_one_that_deduplicates(sender_to: Open) -> None:
    async with Scripted() as server:
        sender = sender_to(server, secret=WHSEC, scheme="standard-webhooks")
        made = await sender.send(URL, POST)
        given = await sender.send(URL, POST, deduplication_id="order-7")

    own, other = server.calls
    assert own.headers["Upstash-Forward-webhook-id"] == made.deduplication_id
    assert other.headers["Upstash-Forward-webhook-id"] == given.deduplication_id == "order-7"


@pytest.mark.parametrize(
    "when",
    [{"delay": "1h"}, {"delay": timedelta(hours=1)}, {"not_before": None}],
    ids=["text", "timedelta", "not before"],
)
async def test_a_delayed_message_is_signed_for_its_delivery(
    sender_to: Open, when: dict[str, Any]
) -> None:
    now = time.time()
    if "not_before" in when:
        when = {"not_before": datetime.fromtimestamp(now + 3600, UTC)}
    async with Scripted() as server:
        sender = sender_to(server, secret=WHSEC, scheme="standard-webhooks")
        await sender.send(URL, POST, **when)

    signed = int(server.only.headers["Upstash-Forward-webhook-timestamp"])
    assert 0 <= signed - int(now) - 3600 < 100
    scheme = SpecVerifier(PRESETS["standard-webhooks"].spec, [WHSEC])
    assert scheme.verify(received(server.only), now + 3600) == Verified(0)
    assert scheme.verify(received(server.only), now) != Verified(0)


async def test_content_that_is_compared_is_the_same_each_time(sender_to: Open) -> None:
    async with Scripted() as server:
        for _ in range(2):  # GitHub's subscribers would look for an ID in a header
            await sender_to(server, secret=SECRET, scheme="github").send(
                URL, {"a": 1}, content_based_deduplication=True
            )

    one, other = server.calls
    assert (one.body, one.headers) == (other.body, other.headers)
