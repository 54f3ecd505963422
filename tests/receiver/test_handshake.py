"""Handshakes: each sender gets the answer of its own handshake only."""

from __future__ import annotations

import hashlib
import hmac
import json
from typing import Any
from urllib.parse import quote

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from multidict import CIMultiDict

from hookmill.config.identity import identify_by
from hookmill.config.source_options import HANDSHAKES
from hookmill.config.sources import Source
from hookmill.signatures import Secret, Signed, Verified
from hookmill.signatures.presets import PRESETS
from hookmill.signatures.spec_verifier import SpecVerifier
from hookmill.stream.arrival import Arrival
from receiver.handshake import MAX_TEXT, METHODS, reply_to_request, reply_to_verified
from receiver.intake import Admitted, ReceivedRequest, admit
from receiver.responses import Refusal, Reply, handshake_reply
from tests.support import CURRENT_KEY, NEXT_KEY

NOW = 1_700_000_000.25
VERIFY_TOKEN = "verify-ä?\N{SNOWMAN}"


def source_of(preset: str, **words: Any) -> Source:
    """A source with a preset's spec, some of its fields changed."""
    spec = msgspec.structs.replace(PRESETS[preset].spec, **words)
    return Source(
        preset,
        f"/{preset}",
        SpecVerifier(spec, [CURRENT_KEY, NEXT_KEY]),
        identify_by(spec),
        handshake=spec.handshake,
        verify_token=VERIFY_TOKEN if spec.handshake == "meta" else "",
        status=spec.acknowledge,
    )


META, DROPBOX, INTERCOM = source_of("meta"), source_of("dropbox"), source_of("intercom")
WOOCOMMERCE, SLACK, TWITCH = source_of("woocommerce"), source_of("slack"), source_of("twitch")
ZOOM = source_of("zoom")
# Only Discord has its private key, so this source is signed as Slack's.
DISCORD = source_of("slack", handshake="discord", id=("json:id",), type=("json:event.type",))
GITHUB = source_of("github")
SOURCES = [META, DROPBOX, INTERCOM, WOOCOMMERCE, SLACK, TWITCH, ZOOM, DISCORD, GITHUB]


def delivered(
    source: Source, body: bytes, headers: dict[str, str] | None = None, *, secret: str = CURRENT_KEY
) -> Admitted:
    """Return what a signed delivery turns into."""
    assert isinstance(source.scheme, SpecVerifier)
    scheme = SpecVerifier(source.scheme.spec, [secret])
    signed = scheme.sign(Signed(CIMultiDict(headers or {}), body, source.path), NOW)
    return admit(source, ReceivedRequest(source.path, signed.headers, (), signed.body), NOW)


def unsigned(source: Source, body: bytes, headers: dict[str, str] | None = None) -> object:
    return admit(source, ReceivedRequest(source.path, CIMultiDict(headers or {}), (), body), NOW)


def texts(answer: object) -> Reply:
    """Check that an answer is plain text."""
    assert isinstance(answer, Reply), answer
    assert content_type(answer) == "text/plain"
    return answer


def content_type(reply: Reply) -> str:
    return dict(reply.headers)["Content-Type"]


# --- requests that are no deliveries: Meta ---

TOKEN = quote(VERIFY_TOKEN)


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
        refusal = reply_to_request(META._replace(verify_token=""), "GET", target)
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
    assert unsigned(WOOCOMMERCE._replace(status=202), body) == handshake_reply()


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


# --- verified deliveries ---

CALLBACK = {"Twitch-Eventsub-Message-Type": "webhook_callback_verification"}
NOTIFICATION = {"Twitch-Eventsub-Message-Type": "notification"}
REVOCATION = {"twitch-eventsub-message-type": "revocation"}


def test_slack_gets_its_challenge() -> None:
    body = b'{"token":"x","challenge":"3eZbrw1aB","type":"url_verification"}'
    assert texts(delivered(SLACK, body)).body == b"3eZbrw1aB"


def test_twitch_gets_its_challenge() -> None:
    body = b'{"challenge":"pogchamp-kappa-360noscope","subscription":{"id":"f1c2"}}'
    assert texts(delivered(TWITCH, body, CALLBACK)).body == b"pogchamp-kappa-360noscope"


@pytest.mark.parametrize("secret", [CURRENT_KEY, NEXT_KEY])
def test_zoom_gets_its_token_under_the_secret_that_it_signed_with(secret: str) -> None:
    body = b'{"event":"endpoint.url_validation","payload":{"plainToken":"qgg8vlvZRS6UYooatFL8Aw"}}'
    answer = delivered(ZOOM, body, secret=secret)
    assert isinstance(answer, Reply)
    assert (answer.status, content_type(answer)) == (200, "application/json")
    token = b"qgg8vlvZRS6UYooatFL8Aw"
    assert json.loads(answer.body) == {
        "plainToken": token.decode(),
        "encryptedToken": hmac.new(secret.encode(), token, hashlib.sha256).hexdigest(),
    }


@pytest.mark.parametrize(
    ("body", "answer"),
    [
        (b'{"id":"1","type":1,"version":1}', handshake_reply(b'{"type":1}', "application/json")),
        (b'{"version":1,"type":0}', handshake_reply(b"", "application/json", 204)),
    ],
)
def test_discords_pings_are_answered(body: bytes, answer: Reply) -> None:
    assert delivered(DISCORD, body) == answer


@pytest.mark.parametrize(
    ("source", "body", "headers"),
    [
        (SLACK, b'{"type":"event_callback","event":{"type":"message"},"challenge":"x"}', {}),
        (SLACK, b"command=/deploy&trigger_id=1.2&type=url_verification&challenge=x", {}),
        (SLACK, b'{"event":{"type":"url_verification"},"challenge":"x"}', {}),
        (SLACK, b'[{"type":"url_verification","challenge":"x"}]', {}),
        (SLACK, b"", {}),
        (SLACK, b'{"type":"url_verification","challenge":"\\ud800"}', {}),  # no JSON
        (TWITCH, b'{"challenge":"x"}', {}),
        (TWITCH, b'{"challenge":"x"}', NOTIFICATION),
        (TWITCH, b'{"subscription":{"status":"authorization_revoked"}}', REVOCATION),
        (ZOOM, b'{"event":"meeting.started","payload":{"plainToken":"x"}}', {}),
        (ZOOM, b"not JSON", {}),
        (DISCORD, b'{"id":"2","type":2,"data":{"name":"deploy"}}', {}),
        (DISCORD, b'{"id":"3","type":3}', {}),
        # An event has the same number as the ping of an interaction.
        (DISCORD, b'{"version":1,"type":1,"event":{"type":"APPLICATION_AUTHORIZED"}}', {}),
        (DISCORD, b'{"type":10}', {}),
        (DISCORD, b"[1]", {}),
        (GITHUB, b'{"type":"url_verification","challenge":"x"}', CALLBACK),
        (META, b'{"event":"endpoint.url_validation","payload":{"plainToken":"x"}}', {}),
    ],
)
def test_every_other_delivery_is_a_message(
    source: Source, body: bytes, headers: dict[str, str]
) -> None:
    arrival = delivered(source, body, headers)
    assert isinstance(arrival, Arrival), arrival
    assert arrival.body == body


@pytest.mark.parametrize(
    ("source", "body", "headers"),
    [
        (SLACK, b'{"type":"url_verification"}', {}),
        (SLACK, b'{"type":"url_verification","challenge":""}', {}),
        (SLACK, b'{"type":"url_verification","challenge":{"x":1}}', {}),
        (SLACK, b'{"type":"url_verification","challenge":"a\\r\\nb"}', {}),
        (SLACK, b'{"type":"url_verification","challenge":"%b"}' % (b"x" * (MAX_TEXT + 1)), {}),
        (TWITCH, b"{}", CALLBACK),
        (TWITCH, b"", CALLBACK),
        (TWITCH, b'{"challenge":"\xc3\xa4"}', CALLBACK),
        (ZOOM, b'{"event":"endpoint.url_validation"}', {}),
        (ZOOM, b'{"event":"endpoint.url_validation","payload":{"plainToken":""}}', {}),
        (ZOOM, b'{"event":"endpoint.url_validation","payload":{"plainToken":"\\u0000"}}', {}),
        (ZOOM, b'{"event":"endpoint.url_validation","payload":{"plainToken":"v0:1:{}"}}', {}),
    ],
)
def test_a_malformed_question_is_a_bad_request(
    source: Source, body: bytes, headers: dict[str, str]
) -> None:
    refusal = delivered(source, body, headers)
    assert isinstance(refusal, Refusal)
    assert refusal[:2] == (400, "handshake_malformed")


def test_two_message_types_of_twitch_are_refused() -> None:
    headers = CIMultiDict([*CALLBACK.items(), *NOTIFICATION.items()])
    refusal = reply_to_verified(TWITCH, Signed(headers, b'{"challenge":"x"}'), Verified(0))
    assert isinstance(refusal, Refusal)
    assert refusal[:2] == (401, "header_repeated")


@pytest.mark.parametrize(
    ("source", "body", "headers"),
    [
        (SLACK, b'{"type":"url_verification","challenge":"CHALLENGE"}', {}),
        (TWITCH, b'{"challenge":"CHALLENGE"}', CALLBACK),
        (ZOOM, b'{"event":"endpoint.url_validation","payload":{"plainToken":"CHALLENGE"}}', {}),
        (DISCORD, b'{"type":1}', {}),
        (DISCORD, b'{"type":0}', {}),
    ],
)
def test_a_question_that_does_not_verify_gets_no_answer(
    source: Source, body: bytes, headers: dict[str, str]
) -> None:
    for refusal in (
        unsigned(source, body, headers),
        delivered(source, body, headers, secret="strange-secret"),
    ):
        assert isinstance(refusal, Refusal)
        assert refusal.status == 401
        assert "CHALLENGE" not in repr(refusal)


def test_every_handshake_that_settings_may_name_is_answered_somewhere() -> None:
    here = {"woocommerce", *METHODS} | {"slack", "twitch", "zoom", "discord"}
    assert here == set(HANDSHAKES) - {"sns"}
    assert {preset.spec.handshake for preset in PRESETS.values()} <= {"", *HANDSHAKES}


def test_what_is_signed_in_answer_shows_no_secret() -> None:
    scheme = SpecVerifier(PRESETS["zoom"].spec, [Secret(CURRENT_KEY, "env:ZOOM")])
    assert scheme.answer_with(0, "x") == hmac.digest(CURRENT_KEY.encode(), b"x", "sha256").hex()
    assert CURRENT_KEY not in scheme.answer_with(0, CURRENT_KEY)


# --- any request ---

NAMES = st.sampled_from(
    ["hub.mode", "hub.challenge", "hub.verify_token", "challenge", "CHALLENGE", ""]
)
VALUES = st.text(max_size=20) | st.sampled_from(["subscribe", TOKEN, VERIFY_TOKEN, "%ff", "%0a"])
QUERIES = st.lists(st.tuples(NAMES, VALUES), max_size=6).map(
    lambda fields: "&".join(f"{name}={value}" for name, value in fields)
)
TARGETS = st.text() | QUERIES.map(lambda query: f"/x?{query}")
# Also surrogates, because aiohttp decodes bytes that are not UTF-8 to them.
ANY_TEXT = st.text(st.characters(exclude_categories=()))


@given(
    source=st.sampled_from(SOURCES),
    method=st.sampled_from(["GET", "HEAD"]) | st.text(),
    target=TARGETS | ANY_TEXT.map(lambda text: f"/x?challenge={text}"),
)
@example(META, "GET", "/x?hub.verify_token=\ud800")
def test_any_handshake_is_answered_with_plain_short_text_or_refused(
    source: Source, method: str, target: str
) -> None:
    answered = reply_to_request(source, method, target)
    if isinstance(answered, Refusal):
        assert answered.status in {400, 403, 405}
        assert len(answered.detail) < 100
        return
    assert (answered.status, content_type(answered)) == (200, "text/plain")
    assert len(answered.body) <= MAX_TEXT
    assert all(0x20 <= byte < 0x7F for byte in answered.body)


@given(query=QUERIES | ANY_TEXT)
def test_meta_is_never_answered_without_its_token(query: str) -> None:
    answered = reply_to_request(META, "GET", f"/meta?{query}")
    if isinstance(answered, Reply):
        assert f"hub.verify_token={TOKEN}" in query or f"hub.verify_token={VERIFY_TOKEN}" in query
    else:
        assert answered.status in {400, 403}


JSON_VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.integers() | st.text() | st.sampled_from(["url_verification", "x" * 2000, 0, 1]),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from(["type", "challenge", "event", "payload", "plainToken", "x"]), inner
        )
    ),
    max_leaves=6,
)
BODIES = (
    st.binary(max_size=100)
    | JSON_VALUES.map(lambda value: json.dumps(value).encode())
    | st.builds(
        lambda fields, value: json.dumps({**fields, **value}).encode(),
        st.sampled_from(
            [
                {"type": "url_verification"},
                {"event": "endpoint.url_validation"},
                {"type": 1},
                {"type": 0},
            ]
        ),
        st.dictionaries(st.sampled_from(["challenge", "payload", "event"]), JSON_VALUES),
    )
)


@given(
    source=st.sampled_from(SOURCES),
    body=BODIES,
    kind=st.sampled_from(["", "notification", *CALLBACK.values()]) | ANY_TEXT,
)
@example(SLACK, b"[" * 100_000, "")
@example(ZOOM, b'{"event":' * 100_000, "")
@example(DISCORD, b'{"type":' + b"9" * 100_000 + b"}", "")
def test_any_delivery_gets_a_bounded_answer_or_is_a_message(
    source: Source, body: bytes, kind: str
) -> None:
    headers = CIMultiDict({"Twitch-Eventsub-Message-Type": kind} if kind else {})
    answered = reply_to_verified(source, Signed(headers, body), Verified(0))
    if isinstance(answered, Reply):
        assert answered.status in {200, 204}
        assert len(answered.body) < 2 * MAX_TEXT + 200
        assert all(0x20 <= byte < 0x7F for byte in answered.body)
    elif answered is not None:
        assert isinstance(answered, Refusal)
        assert answered.status in {400, 401}
