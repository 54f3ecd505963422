"""Handshakes that come as a delivery: each sender gets the answer of its own handshake only."""

from __future__ import annotations

import hashlib
import hmac
import json

import pytest
from multidict import CIMultiDict

from hookmill.config.source_options import HANDSHAKES
from hookmill.config.sources import Source
from hookmill.signatures import Secret, Signed, Verified
from hookmill.signatures.presets import PRESETS
from hookmill.signatures.spec_verifier import SpecVerifier
from hookmill.stream.arrival import Arrival
from receiver.handshake import MAX_TEXT, METHODS, reply_to_verified
from receiver.responses import Refusal, Reply, handshake_reply
from tests.receiver.handshakes import (
    CALLBACK,
    DISCORD,
    GITHUB,
    META,
    SLACK,
    TWITCH,
    ZOOM,
    content_type,
    delivered,
    unsigned,
)
from tests.support import CURRENT_KEY, NEXT_KEY


def texts(answer: object) -> Reply:
    """Check that an answer is plain text."""
    assert isinstance(answer, Reply), answer
    assert content_type(answer) == "text/plain"
    return answer


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
