"""Twilio's own validator beside ours: ports, fields, and the hash of the body."""

from __future__ import annotations

from urllib.parse import parse_qsl

import pytest
from multidict import MultiDict
from twilio.request_validator import RequestValidator

from tests.signatures.sdks import EVENT, FORM, URL, Twilio, ours
from tests.signatures.senders import NOW, with_headers


def test_twilios_validator_agrees_on_ports_and_on_the_bodys_hash() -> None:
    sdk = Twilio()
    validator = RequestValidator(sdk.secret)
    signed = sdk.sign(FORM, NOW)
    fields = MultiDict(parse_qsl(FORM.decode()))
    for configured in (URL, "https://app.example:443/hook", "https://app.example:8443/hook"):
        for signing in (URL, "https://app.example:443/hook", "https://app.example:8443/hook"):
            text = validator.compute_signature(signing, fields)
            mutant = with_headers(signed, X_Twilio_Signature=text)._replace(url=configured)
            assert ours(sdk, mutant) == validator.validate(configured, fields, text)
    wrong = sdk.sign(EVENT, NOW)
    wrong = wrong._replace(target=wrong.target[:-1] + ("0" if wrong.target[-1] != "0" else "1"))
    text = validator.compute_signature("https://app.example" + wrong.target, {})
    wrong = with_headers(wrong, X_Twilio_Signature=text)
    assert not ours(sdk, wrong)
    assert not sdk.accepts(wrong, sdk.secret)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (FORM + b"&token=t", "a field twice is the same as once: both take it"),
        (FORM.replace(b"%2F", b"%2f"), "an escape in lower case is the same field: both take it"),
        (b"token=tcommand%2Fweather", ""),
    ],
)
def test_what_twilio_does_not_sign_neither_of_us_can_see(body: bytes, reason: str) -> None:
    sdk = Twilio()
    mutant = sdk.sign(FORM, NOW)._replace(body=body)
    assert ours(sdk, mutant) == sdk.accepts(mutant, sdk.secret) == bool(reason)


@pytest.mark.parametrize(
    ("body", "theirs", "mine"),
    [
        # Names and values stand without a border in what Twilio signs: this is its scheme's own.
        (b"command=%2Fweathertext94070tokent", True, True),
        # The same without a value, or with two, is no form that Twilio sends.
        (b"command%2Fweather=text94070tokent", True, True),
        (b"command%2Fweather&text=94070&token=t", True, False),
        (b"&" + FORM, True, False),
    ],
)
def test_twilios_fields_have_no_borders_and_we_take_no_more_than_forms(
    body: bytes, theirs: bool, mine: bool
) -> None:
    sdk = Twilio()
    mutant = sdk.sign(FORM, NOW)._replace(body=body)
    assert sdk.accepts(mutant, sdk.secret) == theirs
    assert ours(sdk, mutant) == mine
