"""What senders ask besides their deliveries, over real sockets."""

from __future__ import annotations

import hmac
import time
from typing import Any

import pytest
from multidict import CIMultiDict

from hookmill.config.sources import Source
from hookmill.message import Message
from hookmill.signatures import Signed
from tests.receiver.serving import (
    HELLO,
    LIMIT,
    Connect,
    Make,
    Running,
    StartReceiver,
    Stored,
    delivery,
    request_bytes,
    tracebacks,
)
from tests.support import (
    MARBLE_SECRET,
)

pytestmark = pytest.mark.usefixtures("lines")


VERIFY_TOKEN = "our-verify-token"


ASKED = {
    name: {"secrets": "env:ASKED_SECRET"}
    for name in ("meta", "dropbox", "intercom", "woocommerce", "slack", "twitch", "zoom")
}


ASKED["meta"]["verify_token"] = "env:ASKED_TOKEN"


# Only Discord has its private key, so this source is signed as Slack's.
ASKED["discord"] = {"preset": "slack", "handshake": "discord", **ASKED["slack"]}


def question_of(
    sources: dict[str, Source], name: str, body: bytes, headers: dict[str, str] | None = None
) -> bytes:
    """The bytes of a signed request."""
    signed = sources[name].scheme.sign(Signed(CIMultiDict(headers or {}), body), time.time())
    return request_bytes(body, headers=dict(signed.headers), target=f"/{name}")


ZOOMS = b'{"event":"endpoint.url_validation","payload":{"plainToken":"qgg8vlvZRS6UYooatFL8Aw"}}'


HANDSHAKES: dict[str, tuple[Make, int, str, bytes]] = {
    "meta": (
        lambda _: request_bytes(
            b"",
            method="GET",
            target="/meta?hub.mode=subscribe&hub.challenge=1158201444"
            f"&hub.verify_token={VERIFY_TOKEN}",
        ),
        200,
        "text/plain",
        b"1158201444",
    ),
    "dropbox": (
        lambda _: request_bytes(b"", method="GET", target="/dropbox?challenge=%3Cabc%3E"),
        200,
        "text/plain",
        b"<abc>",
    ),
    "head": (
        lambda _: request_bytes(b"", method="HEAD", target="/intercom"),
        200,
        "text/plain",
        b"",
    ),
    "woocommerce": (
        lambda _: request_bytes(b"webhook_id=42", target="/woocommerce"),
        200,
        "text/plain",
        b"",
    ),
    "slack": (
        lambda s: question_of(s, "slack", b'{"type":"url_verification","challenge":"3eZbrw1aB"}'),
        200,
        "text/plain",
        b"3eZbrw1aB",
    ),
    "twitch": (
        lambda s: question_of(
            s,
            "twitch",
            b'{"challenge":"pogchamp"}',
            {"Twitch-Eventsub-Message-Type": "webhook_callback_verification"},
        ),
        200,
        "text/plain",
        b"pogchamp",
    ),
    "zoom": (
        lambda s: question_of(s, "zoom", ZOOMS),
        200,
        "application/json",
        b'{"plainToken":"qgg8vlvZRS6UYooatFL8Aw","encryptedToken":"'
        + hmac.digest(MARBLE_SECRET.encode(), b"qgg8vlvZRS6UYooatFL8Aw", "sha256").hex().encode()
        + b'"}',
    ),
    "discord": (
        lambda s: question_of(s, "discord", b'{"id":"1","type":1}'),
        200,
        "application/json",
        b'{"type":1}',
    ),
    "discord, an event's": (
        lambda s: question_of(s, "discord", b'{"version":1,"type":0}'),
        204,
        "application/json",
        b"",
    ),
}


@pytest.fixture
def start_asked(start: StartReceiver, monkeypatch: pytest.MonkeyPatch) -> StartReceiver:
    """Start a receiver with all senders that have a handshake."""
    monkeypatch.setenv("ASKED_SECRET", MARBLE_SECRET)
    monkeypatch.setenv("ASKED_TOKEN", VERIFY_TOKEN)

    async def start_one(**tables: dict[str, Any]) -> Running:
        return await start(sources={**ASKED, **tables})

    return start_one


@pytest.mark.parametrize(
    ("name", "make", "expected"),
    [(name.partition(",")[0], make, rest) for name, (make, *rest) in HANDSHAKES.items()],
    ids=HANDSHAKES.keys(),
)
async def test_a_handshake_is_answered_and_stores_nothing(
    start_asked: StartReceiver,
    connect: Connect,
    stored: Stored,
    lines: list[dict[str, Any]],
    name: str,
    make: Make,
    expected: list[object],
) -> None:
    running = await start_asked()
    wire = await connect(running)
    await wire.send(make(running.sources))
    answer = await wire.answer(head=name == "head")
    content_type = answer.headers["Content-Type"].partition(";")[0]
    assert [answer.status, content_type, answer.body] == expected
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert stored() == []
    assert [(line["event"], line["handshake"]) for line in lines] == [("answered", name)]
    assert len(repr(lines)) < 150
    # The connection is kept, and takes a delivery.
    await wire.send(delivery(running.sources["marble"]))
    assert (await wire.answer()).status == 200
    assert len(stored()) == 1


@pytest.mark.parametrize(
    ("name", "body", "headers"),
    [
        ("slack", b'{"type":"event_callback","event_id":"Ev1","challenge":"x"}', {}),
        ("twitch", b'{"challenge":"x"}', {"Twitch-Eventsub-Message-Type": "revocation"}),
        ("zoom", b'{"event":"meeting.started","payload":{"plainToken":"x"}}', {}),
        ("discord", b'{"version":1,"type":1,"event":{"type":"QUEST_USER_ENROLLMENT"}}', {}),
        ("woocommerce", b"webhook_id=42", {}),  # signed
        ("meta", b'{"object":"page","hub.mode":"subscribe"}', {}),
    ],
)
async def test_an_ordinary_delivery_of_a_sender_that_asks_is_stored(
    start_asked: StartReceiver,
    connect: Connect,
    stored: Stored,
    name: str,
    body: bytes,
    headers: dict[str, str],
) -> None:
    running = await start_asked()
    wire = await connect(running)
    await wire.send(question_of(running.sources, name, body, headers))
    answer = await wire.answer()
    assert (answer.status, answer.body) == (200, b"")
    (entry,) = stored()
    found = Message.from_fields(entry)
    assert (found.source, found.body) == (name, body)


HOSTILE: dict[str, tuple[Make, int, str]] = {
    "meta, no token": (
        lambda _: request_bytes(
            b"", method="GET", target="/meta?hub.mode=subscribe&hub.challenge=x"
        ),
        403,
        "verify_token_mismatch",
    ),
    "meta, a token of bytes": (
        lambda _: request_bytes(b"", method="GET", target="/meta?hub.verify_token=%ff%fe"),
        403,
        "verify_token_mismatch",
    ),
    "dropbox, nothing": (
        lambda _: request_bytes(b"", method="GET", target="/dropbox"),
        400,
        "handshake_malformed",
    ),
    "dropbox, another header": (
        lambda _: request_bytes(b"", method="GET", target="/dropbox?challenge=a%0d%0aX:%20b"),
        400,
        "handshake_malformed",
    ),
    "dropbox, very long": (
        lambda _: request_bytes(b"", method="GET", target=f"/dropbox?challenge={'x' * 7000}"),
        400,
        "handshake_malformed",
    ),
    "slack, unsigned": (
        lambda _: request_bytes(b'{"type":"url_verification","challenge":"x"}', target="/slack"),
        401,
        "header_missing",
    ),
    "slack, too large": (
        lambda s: question_of(
            s, "slack", b'{"type":"url_verification","challenge":"%b"}' % (b"x" * LIMIT)
        ),
        413,
        "too_large",
    ),
    "zoom, no token": (
        lambda s: question_of(s, "zoom", b'{"event":"endpoint.url_validation"}'),
        400,
        "handshake_malformed",
    ),
    "woocommerce, another form": (
        lambda _: request_bytes(b"webhook_id=42&a=b", target="/woocommerce"),
        401,
        "header_missing",
    ),
    "a sender that does not ask": (
        lambda _: request_bytes(b"", method="GET", target="/marble?challenge=x"),
        405,
        "method_not_allowed",
    ),
    "a body that is announced": (
        lambda _: request_bytes(b"x" * (LIMIT + 1), method="GET", target="/dropbox?challenge=x"),
        413,
        "too_large",
    ),
    "a sender that asks in another way": (
        lambda _: request_bytes(b"", method="PUT", target="/dropbox?challenge=x"),
        405,
        "method_not_allowed",
    ),
}


@pytest.mark.parametrize(("make", "status", "code"), HOSTILE.values(), ids=HOSTILE.keys())
async def test_a_hostile_handshake_is_refused_with_one_line(
    start_asked: StartReceiver,
    connect: Connect,
    stored: Stored,
    lines: list[dict[str, Any]],
    caplog: pytest.LogCaptureFixture,
    make: Make,
    status: int,
    code: str,
) -> None:
    running = await start_asked()
    wire = await connect(running)
    await wire.send(make(running.sources))
    answer = await wire.answer()
    assert answer.status == status
    assert len(answer.body) < 300
    assert stored() == []
    assert [(line["event"], line["code"]) for line in lines] == [("refused", code)]
    for secret in (MARBLE_SECRET, VERIFY_TOKEN):
        assert secret not in repr(answer) + repr(lines) + caplog.text
    assert tracebacks(caplog) == []


async def test_the_methods_of_a_sender_that_asks_are_named(
    start_asked: StartReceiver, connect: Connect
) -> None:
    running = await start_asked()
    wire = await connect(running)
    for target, allow in (
        ("/dropbox", "POST, GET"),
        ("/intercom", "POST, HEAD"),
        ("/slack", "POST"),
    ):
        await wire.send(request_bytes(b"", method="PUT", target=target))
        assert (await wire.answer()).headers["Allow"] == allow


async def test_what_a_get_brings_along_is_not_taken_for_the_next_request(
    start_asked: StartReceiver, connect: Connect, stored: Stored
) -> None:
    running = await start_asked()
    wire = await connect(running)
    inner = delivery(running.sources["marble"])
    head = b"GET /dropbox?challenge=x HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n"
    await wire.send(head % len(inner) + inner)
    assert (await wire.answer()).status == 200
    assert stored() == []


async def test_answered_handshakes_cannot_flood_the_log(
    start_asked: StartReceiver, connect: Connect, lines: list[dict[str, Any]]
) -> None:
    running = await start_asked()
    wire = await connect(running)
    for _ in range(200):
        await wire.send(request_bytes(b"", method="GET", target="/dropbox?challenge=x"))
        assert (await wire.answer()).status == 200
    assert 10 <= len(lines) < 100


async def test_a_delivery_and_its_duplicate_are_acknowledged_with_the_status_of_their_source(
    start_asked: StartReceiver, connect: Connect, stored: Stored
) -> None:
    words = {"preset": "dropbox", **ASKED["dropbox"]}
    running = await start_asked(
        accepted={"acknowledge": 202, **words}, silent={"acknowledge": 204, **words}
    )
    wire = await connect(running)
    for name, status in (("accepted", 202), ("silent", 204)):
        for _ in range(2):
            await wire.send(question_of(running.sources, name, HELLO))
            answer = await wire.answer()
            assert (answer.status, answer.body) == (status, b"")
        await wire.send(request_bytes(target=f"/{name}"))
        assert (await wire.answer()).status == 401
    assert len(stored()) == 4
