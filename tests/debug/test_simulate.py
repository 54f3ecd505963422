"""Deliveries on the wire: sent to a real server, and judged there by the receiver's intake."""

from __future__ import annotations

import time

import pytest

from hookmill.config.identity import identify_marble, identify_qstash
from hookmill.config.sources import Source
from hookmill.debug.simulate import ReceiverAnswer, deliver
from hookmill.message import Message
from hookmill.signatures import Refused, Signed, Verified
from hookmill.signatures.marble import marble_scheme, timestamped
from hookmill.signatures.presets import PRESETS
from hookmill.signatures.spec_verifier import SpecVerifier
from receiver.intake import admit
from receiver.responses import Refusal
from tests.debug.endpoint import MARBLE, Endpoint, send
from tests.support import MARBLE_SECRET

EVENT = '{"id":"evt_1","type":"post.published","data":{"title":"é"}}'.encode()
OLDER = b'{"event":"post.published","data":{"id":"p","slug":"s"}}'


def judge(endpoint: Endpoint, source: str) -> Message | Refusal:
    """What a receiver with the same secrets says to the one request that came."""
    sources = {
        "qstash": Source("qstash", "/hook", endpoint.qstash(), identify_qstash),
        "marble": Source("marble", "/hook", MARBLE, identify_marble),
    }
    judged = admit(sources[source], endpoint.only, time.time())
    assert isinstance(judged, (Message, Refusal))
    return judged


# --- what goes out ---


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b'{ "hello" :"w\xc3\xb6rld"}\r\n',
        b"\x00\xff\xfe",
        b"a" * 900_000,
    ],
    ids=["empty", "json", "binary", "large"],
)
@pytest.mark.parametrize("source", ["qstash", "marble"])
async def test_the_body_goes_out_byte_for_byte_and_verifies(
    endpoint: Endpoint, source: str, body: bytes
) -> None:
    answer = await send(endpoint, source, body)
    assert answer == ReceiverAnswer(200, "")
    assert endpoint.methods == ["POST"]
    assert endpoint.only.body == body
    assert endpoint.only.headers["Content-Length"] == str(len(body))
    assert "Content-Encoding" not in endpoint.only.headers
    message = judge(endpoint, source)
    assert isinstance(message, Message), message
    assert message.body == body


@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("/hook", "/hook"),
        ("", "/"),
        ("/", "/"),
        ("?a=1", "/?a=1"),
        ("/a%2Fb/%7Euser?x=%2F&y=a+b&z=%20", "/a%2Fb/%7Euser?x=%2F&y=a+b&z=%20"),
        ("/..//a/./b?a=1&a=2", "/..//a/./b?a=1&a=2"),
        ("/hook?b=2&a=1&empty=", "/hook?b=2&a=1&empty="),
        ("/hook#fragment", "/hook"),
    ],
)
async def test_the_url_is_requested_as_it_is_written_and_signed_as_it_is_requested(
    endpoint: Endpoint, path: str, target: str
) -> None:
    await send(endpoint, "qstash", b"{}", path)
    assert endpoint.only.target == target
    assert isinstance(judge(endpoint, "qstash"), Message)


async def test_qstashs_headers_are_on_the_wire(endpoint: Endpoint) -> None:
    await send(endpoint, "qstash", b'{"hello":"world"}', message_id="msg_7")
    headers = endpoint.only.headers
    assert headers["Upstash-Message-Id"] == "msg_7"
    assert headers["Upstash-Retried"] == "0"
    assert headers["User-Agent"] == "Upstash-QStash"
    assert headers["Content-Type"] == "application/json"
    assert len(headers.getall("Upstash-Signature")) == 1
    message = judge(endpoint, "qstash")
    assert isinstance(message, Message)
    assert message.id == "msg_7"


async def test_marbles_headers_have_the_values_of_the_body(endpoint: Endpoint) -> None:
    await send(endpoint, "marble", EVENT, message_id="7")
    headers = endpoint.only.headers
    assert headers["x-marble-event"] == "post.published"
    assert headers["x-marble-event-id"] == "evt_1"
    assert headers["x-marble-delivery-id"] == "whd_7"
    assert headers["User-Agent"] == "Marble-Webhooks/1.0"
    assert abs(int(headers["x-marble-timestamp"]) - time.time()) < 60
    assert headers["x-marble-signature"].startswith("sha256=")
    assert not any(name.lower().startswith("upstash") for name in headers)
    message = judge(endpoint, "marble")
    assert isinstance(message, Message)
    assert (message.id, message.type) == ("evt_1", "post.published")


async def test_marbles_older_generation_comes_through_qstash(endpoint: Endpoint) -> None:
    await send(endpoint, "marble", OLDER, message_id="msg_7")
    headers = endpoint.only.headers
    assert headers["User-Agent"] == "Upstash-QStash"
    assert [name for name in headers if name.lower().startswith("x-marble")] == [
        "x-marble-signature"
    ]
    message = judge(endpoint, "marble")
    assert isinstance(message, Message)
    assert (message.id, message.type) == ("msg_7", "post.published")


async def test_the_signed_time_is_the_one_that_is_sent(endpoint: Endpoint) -> None:
    scheme = marble_scheme([MARBLE_SECRET], with_time=True)
    await deliver("marble", scheme, endpoint.base, EVENT, message_id="7")
    sent = endpoint.only
    assert len(sent.headers.getall("x-marble-timestamp")) == 1
    verdict = scheme.verify(Signed(sent.headers, sent.body), time.time())
    assert verdict == Verified(0)


async def test_what_is_signed_goes_before_what_is_only_made_up(endpoint: Endpoint) -> None:
    class Past(SpecVerifier):
        def sign(self, delivery: Signed, now: float) -> Signed:
            return super().sign(delivery, min(now, 1_700_000_000))

    scheme = Past(timestamped(), [MARBLE_SECRET])
    await deliver("marble", scheme, endpoint.base, EVENT, message_id="7")
    assert endpoint.only.headers.getall("x-marble-timestamp") == ["1700000000"]


@pytest.mark.parametrize(
    ("source", "code"), [("qstash", "body_mismatch"), ("marble", "signature_mismatch")]
)
async def test_a_forged_delivery_was_changed_after_it_was_signed(
    endpoint: Endpoint, source: str, code: str
) -> None:
    await send(endpoint, source, EVENT, forged=True)
    assert endpoint.only.body == EVENT + b" "
    refusal = judge(endpoint, source)
    assert isinstance(refusal, Refusal)
    assert (refusal.status, refusal.code) == (401, code)


@pytest.mark.parametrize("name", ["mailgun", "strapi", "gitlab-token"])
async def test_where_the_body_is_not_signed_what_is_forged_is_the_proof(
    endpoint: Endpoint, name: str
) -> None:
    scheme = SpecVerifier(PRESETS[name].spec, [MARBLE_SECRET])
    codes = []
    for forged in (False, True):
        await deliver(name, scheme, endpoint.base, message_id="7", forged=forged)
        sent = endpoint.requests.pop()
        verdict = scheme.verify(Signed(sent.headers, sent.body), time.time())
        codes.append(verdict.code if isinstance(verdict, Refused) else "verified")
    assert codes == ["verified", "signature_mismatch"]


async def test_the_url_that_is_signed_may_be_another_than_the_one_that_is_asked(
    endpoint: Endpoint,
) -> None:
    scheme = SpecVerifier(PRESETS["square"].spec, [MARBLE_SECRET])
    url = "https://app.example/hook"
    await deliver("square", scheme, endpoint.base, message_id="7", signed_url=url)
    sent = endpoint.only
    verdict = scheme.verify(Signed(sent.headers, sent.body, url=url), time.time())
    assert verdict == Verified(0)
