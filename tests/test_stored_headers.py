"""Which headers of a delivery are stored: no credentials, whatever their sender calls them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hookmill.message import pack_headers
from hookmill.signatures.places import _TOKEN
from hookmill.signatures.presets import PRESETS
from hookmill.signatures.spec import as_template, parts
from hookmill.stored_headers import MOST_NAMES, StoredNames, is_stored


@pytest.mark.parametrize(
    "name",
    [
        *("Authorization", "Proxy-Authorization", "X-Forwarded-Authorization", "Cookie"),
        *("X-Gitlab-Token", "X-Telegram-Bot-Api-Secret-Token", "X-Goog-Channel-Token"),
        *("X-Api-Key", "Api-Key", "APIKEY", "X-ApiKey", "X_API_KEY", "Ocp-Apim-Subscription-Key"),
        *("X-Auth-Token", "X-Auth-Key", "X-Access-Token", "X-Webhook-Secret", "X-Hook-Secret"),
        *("X-Password", "X-Amzn-Oidc-Accesstoken", "Cf-Access-Jwt-Assertion", "X-Webhook-Key"),
        *("X-Amz-Security-Token", "X-Auth", "X-Shared-Secret-1", "Upstash-Forward-Authorization"),
    ],
)
def test_a_credential_is_not_stored(name: str) -> None:
    for spelt in (name, name.lower(), name.upper()):
        assert pack_headers(((spelt.encode(), b"shh"), (b"X-Other", b"1"))) == b"X-Other: 1"


@pytest.mark.parametrize(
    "name",
    [
        *("Idempotency-Key", "X-Event-Key", "I-Twilio-Idempotency-Token", "X-Request-Id"),
        *("Upstash-Signature", "PAYPAL-AUTH-ALGO", "Upstash-Message-Id", "Content-Type"),
        *("X-Author", "X-Keyboard", "User-Agent", "X-Tokenizer", "X-Secretary"),
    ],
)
def test_what_only_sounds_like_one_is_stored(name: str) -> None:
    assert is_stored(name.encode())


def test_what_known_senders_sign_and_name_is_stored() -> None:
    for name, preset in PRESETS.items():
        spec = preset.spec
        places = [spec.timestamp, *spec.id, *spec.type, spec.content]
        places += [] if spec.algorithm == "token" else [spec.signature]
        for place in filter(None, places):
            for _, field in parts(as_template(place)):
                kind, _, header = field.partition(":")
                assert kind != "header" or is_stored(header.encode()), (name, header)


def test_the_names_that_are_remembered_are_bounded() -> None:
    names = StoredNames()
    for number in range(3 * MOST_NAMES):
        assert names[b"x-%d" % number]
        assert not names[b"x-%d-token" % number]
    assert len(names) <= MOST_NAMES


@given(st.from_regex(_TOKEN, fullmatch=True))
def test_the_answer_does_not_depend_on_upper_and_lower_case(name: str) -> None:
    answers = {is_stored(one.encode()) for one in (name, name.upper(), name.lower())}
    assert len(answers) == 1
