"""Handshakes that are no deliveries: each sender gets the answer of its own handshake only."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from hookmill.config.sources import Source
from hookmill.stream.arrival import Arrival
from receiver.handshake import MAX_TEXT, METHODS, reply_to_request
from receiver.responses import Refusal, Reply, handshake_reply
from tests.receiver.handshakes import (
    DROPBOX,
    INTERCOM,
    META,
    SOURCES,
    TOKEN,
    VERIFY_TOKEN,
    WOOCOMMERCE,
    delivered,
    unsigned,
)

# --- requests that are no deliveries: Meta ---


def test_meta_gets_its_challenge_with_the_right_token() -> None:
    target = f"/meta?hub.mode=subscribe&hub.challenge=1158201444&hub.verify_token={TOKEN}"
    assert reply_to_request(META, "GET", target) == handshake_reply(b"1158201444")


@pytest.mark.parametrize(
    "query",
    [
        "",
        "?",
        "?hub.mode=subscribe&hub.challenge=CHALLENGE",
        "?hub.mode=subscribe&hub.challenge=CHALLENGE&hub.verify_token=",
        "?hub.mode=subscribe&hub.challenge=CHALLENGE&hub.verify_token=verify",
        f"?hub.mode=subscribe&hub.challenge=CHALLENGE&hub.verify_token={TOKEN}x",
        f"?hub.mode=subscribe&hub.challenge=CHALLENGE&hub.verify_token={TOKEN}%00",
        f"?hub.mode=subscribe&hub.challenge=CHALLENGE&hub.verify_token={TOKEN}&hub.verify_token=x",
        f"?hub.mode=subscribe&hub.challenge=CHALLENGE{2 * f'&hub.verify_token={TOKEN}'}",
        f"?hub.mode=subscribe&hub.challenge=CHALLENGE&Hub.Verify_Token={TOKEN}",
        "?hub.mode=subscribe&hub.challenge=CHALLENGE&hub.verify_token=%ff%fe",
        "?hub.mode=subscribe&hub.challenge=CHALLENGE&hub.verify_token=\udcff\ud800",
        "?" + "&".join(["hub.challenge=CHALLENGE"] * 2000) + f"&hub.verify_token={TOKEN}",
    ],
)
def test_meta_without_the_right_token_is_forbidden_and_told_nothing(query: str) -> None:
    refusal = reply_to_request(META, "GET", f"/meta{query}")
    assert isinstance(refusal, Refusal)
    assert refusal[:2] == (403, "verify_token_mismatch")
    assert "CHALLENGE" not in repr(refusal)
    assert VERIFY_TOKEN not in repr(refusal)


def test_a_source_without_a_verify_token_accepts_none() -> None:
    for token in ("", "&hub.verify_token=", "&hub.verify_token"):
        target = f"/meta?hub.mode=subscribe&hub.challenge=1{token}"
        refusal = reply_to_request(replace(META, verify_token=""), "GET", target)
        assert isinstance(refusal, Refusal)
        assert refusal.status == 403


@pytest.mark.parametrize(
    "rest",
    [
        "hub.mode=subscribe",
        "hub.mode=unsubscribe&hub.challenge=1",
        "hub.challenge=1",
        "hub.mode=subscribe&hub.challenge=",
        "hub.mode=subscribe&hub.challenge=1&hub.challenge=2",
        "hub.mode=subscribe&hub.challenge=a%0d%0ab",
        "hub.mode=subscribe&hub.challenge=%c3%a4",
        f"hub.mode=subscribe&hub.challenge={'1' * (MAX_TEXT + 1)}",
    ],
)
def test_meta_with_the_right_token_and_no_proper_question_is_a_bad_request(rest: str) -> None:
    refusal = reply_to_request(META, "GET", f"/meta?hub.verify_token={TOKEN}&{rest}")
    assert isinstance(refusal, Refusal)
    assert refusal[:2] == (400, "handshake_malformed")


# --- requests that are no deliveries: Dropbox, Intercom ---


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("?challenge=abc123", b"abc123"),
        ("?challenge=a%20b+c", b"a b c"),
        # Harmless as text/plain, which a browser does not run.
        ("?challenge=%3Cscript%3E", b"<script>"),
        ("?other=1&challenge=x", b"x"),
        (f"?challenge={'x' * MAX_TEXT}", b"x" * MAX_TEXT),
    ],
)
def test_dropbox_gets_its_challenge(query: str, text: bytes) -> None:
    assert reply_to_request(DROPBOX, "GET", f"/dropbox{query}") == handshake_reply(text)


@pytest.mark.parametrize(
    "query",
    [
        "",
        "?",
        "?challenge",
        "?challenge=",
        "?Challenge=x",
        "?challenge=x&challenge=y",
        f"?challenge={'x' * (MAX_TEXT + 1)}",
        "?challenge=%0d%0aSet-Cookie:%20x",
        "?challenge=%00",
        "?challenge=%7f",
        "?challenge=%1b[2J",
        "?challenge=%c3%a4",
        "?challenge=%ff",
        "?challenge=\udcff",
    ],
)
def test_dropbox_gets_back_only_plain_short_text(query: str) -> None:
    refusal = reply_to_request(DROPBOX, "GET", f"/dropbox{query}")
    assert isinstance(refusal, Refusal)
    assert refusal[:2] == (400, "handshake_malformed")


def test_intercom_gets_its_200() -> None:
    assert reply_to_request(INTERCOM, "HEAD", "/intercom") == handshake_reply()


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "OPTIONS", "get", ""])
@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.handshake)
def test_no_other_method_than_the_handshakes_own_is_answered(source: Source, method: str) -> None:
    answered = reply_to_request(source, method, f"{source.path}?challenge=x")
    if method not in METHODS.get(source.handshake, ()):
        assert isinstance(answered, Refusal)
        assert answered[:2] == (405, "method_not_allowed")


# --- requests that are no deliveries: WooCommerce ---


@pytest.mark.parametrize("body", [b"webhook_id=1", b"webhook_id=12345678901234567890"])
def test_woocommerces_unsigned_ping_gets_its_200(body: bytes) -> None:
    assert unsigned(WOOCOMMERCE, body) == handshake_reply()
    # WooCommerce expects a 200 here, whatever status acknowledges a delivery.
    assert unsigned(replace(WOOCOMMERCE, status=202), body) == handshake_reply()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"webhook_id=",
        b"webhook_id=a",
        b"webhook_id=1\n",
        b"webhook_id=-1",
        b"webhook_id=\xd9\xa1",  # an Arabic digit
        b"webhook_id=1&topic=order.created",
        b" webhook_id=1",
        b"WEBHOOK_ID=1",
        b'{"webhook_id":1}',
        b"webhook_id=" + b"1" * 21,
    ],
)
def test_no_other_unsigned_form_is_answered(body: bytes) -> None:
    refusal = unsigned(WOOCOMMERCE, body)
    assert isinstance(refusal, Refusal)
    assert refusal[:2] == (401, "header_missing")


@pytest.mark.parametrize("value", ["", "x", "\udcff"])
def test_a_ping_with_a_signature_has_to_have_the_right_one(value: str) -> None:
    refusal = unsigned(WOOCOMMERCE, b"webhook_id=1", {"x-wc-webhook-signature": value})
    assert isinstance(refusal, Refusal)
    assert refusal[:2] == (401, "signature_mismatch")
    assert isinstance(delivered(WOOCOMMERCE, b"webhook_id=1"), Arrival)


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.handshake)
def test_only_woocommerce_may_ping_unsigned(source: Source) -> None:
    answered = unsigned(source, b"webhook_id=1")
    assert isinstance(answered, Reply if source is WOOCOMMERCE else Refusal)
