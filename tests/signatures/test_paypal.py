"""PayPal: what is signed and what is not, and how old a delivery may be."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import zlib

import pytest
from cryptography.hazmat.primitives.hashes import SHA1
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from hookmill.errors import SettingsError
from hookmill.signatures.paypal import (
    ALGORITHM,
    CERTIFICATE,
    ID,
    SIGNATURE,
    TIME,
    TOLERANCE,
    PayPal,
)
from hookmill.signatures.scheme import (
    NeedsCertificate,
    NetworkScheme,
    Refused,
    Secret,
    Signed,
    Verified,
)
from tests.authority import signature
from tests.signatures.paypal_deliveries import (
    BODY,
    CHAIN,
    KEY,
    NOW,
    ROOT,
    SENT,
    TRANSMISSION,
    URL,
    WEBHOOK,
    code_of,
    headers,
    scheme,
    verify,
    with_crc_of,
)

# --- what is signed ---


@pytest.mark.parametrize("body", [BODY, b"", b"\xff" * 1000, '{"name":"Ädä"}'.encode()])
def test_what_paypal_signs_is_accepted(body: bytes) -> None:
    assert verify(headers(body), body) == Verified(0)


def test_without_its_certificate_nothing_is_accepted_and_the_url_is_named() -> None:
    made: NetworkScheme = PayPal([WEBHOOK], ROOT.pem)
    assert made.verify(Signed(headers(), BODY), NOW) == NeedsCertificate(URL)
    with pytest.raises(SettingsError):
        made.sign(Signed(CIMultiDict(), b""), NOW)


def test_every_changed_byte_of_the_body_is_refused() -> None:
    made, sent = scheme(), headers()
    for place in range(len(BODY)):
        forged = BODY[:place] + bytes([BODY[place] ^ 1]) + BODY[place + 1 :]
        assert code_of(made.verify(Signed(sent, forged), NOW)) == "signature_mismatch"


@pytest.mark.parametrize(
    ("name", "value"), [(ID, TRANSMISSION[:-1] + "5"), (TIME, "2026-05-22T14:42:32Z")]
)
def test_every_changed_signed_header_is_refused(name: str, value: str) -> None:
    sent = headers()
    sent[name] = value
    assert code_of(verify(sent)) == "signature_mismatch"


def test_every_changed_digit_of_the_signature_is_refused() -> None:
    made, sent = scheme(), headers()
    text = sent[SIGNATURE]
    for place in range(0, len(text), 7):
        sent[SIGNATURE] = text[:place] + ("A" if text[place] != "A" else "B") + text[place + 1 :]
        code = code_of(made.verify(Signed(sent, BODY), NOW))
        assert code in {"signature_mismatch", "signature_malformed"}


def test_any_of_several_webhooks_verifies_and_the_verdict_says_which() -> None:
    sent = Signed(headers(), BODY)
    assert scheme("OTHER", WEBHOOK).verify(sent, NOW) == Verified(1)
    assert code_of(scheme("OTHER").verify(sent, NOW)) == "signature_mismatch"
    assert code_of(scheme(Secret(WEBHOOK, ends=NOW)).verify(sent, NOW)) == "signature_mismatch"


def test_a_body_with_a_corrected_checksum_verifies_so_its_transmission_is_accepted_only_once() -> (
    None
):
    forged = with_crc_of(b'{"id":"WH-forged","amount":1000000,"x":"', BODY)
    genuine, copy = verify(headers()), verify(headers(), forged)
    assert isinstance(genuine, Verified)
    assert isinstance(copy, Verified)  # the threat that the module names
    assert genuine.token is not None
    assert genuine.token == copy.token
    assert genuine.token.expires == NOW + TOLERANCE
    other = verify(headers(id="another"))
    assert isinstance(other, Verified)
    assert other.token != genuine.token


@pytest.mark.parametrize("name", [ID, TIME, SIGNATURE, CERTIFICATE, ALGORITHM])
def test_a_missing_header_is_refused_and_so_is_a_second_one(name: str) -> None:
    sent = headers()
    sent.add(name.lower(), sent[name])
    assert code_of(verify(sent)) == "header_repeated"
    del sent[name]
    assert code_of(verify(sent)) == "header_missing"


@pytest.mark.parametrize("name", ["", "SHA1withRSA", "SHA256WITHRSA", "SHA256withRSA ", "none"])
def test_no_other_algorithm_is_accepted(name: str) -> None:
    sent = headers()
    sent[ALGORITHM] = name
    content = f"{TRANSMISSION}|{SENT}|{WEBHOOK}|{zlib.crc32(BODY)}".encode()
    sent[SIGNATURE] = base64.b64encode(signature(KEY, content, SHA1())).decode()
    assert code_of(verify(sent)) == "algorithm_unsupported"


@pytest.mark.parametrize(
    "value", ["", "a|b", f"{TRANSMISSION}|{SENT}", "a b", "a\n", "é", "\udcff", "x" * 129]
)
def test_an_id_that_is_none_is_refused_even_when_it_is_signed(value: str) -> None:
    assert code_of(verify(headers(id=value))) == "field_malformed"


# --- the time ---


@pytest.mark.parametrize(
    ("late_by", "code"),
    [
        (-301, "timestamp_too_far"),
        (-300, "verified"),
        (TOLERANCE, "verified"),
        (TOLERANCE + 1, "timestamp_too_far"),
    ],
)
def test_the_signed_time_may_be_as_old_as_paypal_goes_on_trying(late_by: float, code: str) -> None:
    now = NOW + late_by
    made = PayPal([WEBHOOK], ROOT.pem)
    assert made.learn(URL, CHAIN, now) is None
    assert code_of(made.verify(Signed(headers(), BODY), now)) == code


@pytest.mark.parametrize("text", ["", "1779460951", "2026-05-22", f"{SENT}|", "\udcff"])
def test_a_time_that_is_none_is_refused(text: str) -> None:
    assert code_of(verify(headers(time=text))) == "timestamp_malformed"


# --- explained, and not installed ---


def test_each_step_can_be_told_without_the_webhooks_id() -> None:
    told: list[str] = []
    assert scheme().explain(Signed(headers(), BODY), NOW + 60, told.append) == Verified(0)
    assert told[0] == (f"signed time: {SENT}, 60 s old; 259200 s old and 300 s ahead are tolerated")
    assert told[1] == f"certificate: {URL}, known"
    assert str(zlib.crc32(BODY)) in told[2]
    assert WEBHOOK not in "".join(told)


def test_without_the_extra_the_import_says_what_to_install() -> None:
    script = """
import sys
sys.modules["cryptography"] = None
from hookmill.errors import NotInstalledError
for name in ("sns", "paypal"):
    try:
        __import__(f"hookmill.signatures.{name}")
    except NotInstalledError as error:
        print(error)
"""
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    line = "this sender signs with a certificate: install hookmill[asymmetric]\n"
    assert run.stdout == 2 * line


# --- whatever comes ---


@given(
    values=st.fixed_dictionaries(
        {}, optional=dict.fromkeys([ID, TIME, SIGNATURE, ALGORITHM], st.binary())
    ),
    body=st.binary(),
    url=st.sampled_from([URL, "https://api.paypal.com/other"]) | st.text(),
    learnt=st.binary(),
)
def test_any_headers_and_body_end_in_a_refusal(
    values: dict[str, bytes], body: bytes, url: str, learnt: bytes
) -> None:
    sent = headers()
    sent.update({name: value.decode("utf-8", "surrogateescape") for name, value in values.items()})
    sent[CERTIFICATE] = url
    verdict = verify(sent, body + b"!")
    assert isinstance(verdict, Refused | NeedsCertificate)
    json.dumps(verdict)  # it can be logged
    made = PayPal([WEBHOOK], ROOT.pem)
    assert made.learn(url, learnt, NOW) is not None
    assert made.learn(URL, b"-----BEGIN CERTIFICATE-----" + learnt + CHAIN[30:], NOW) is not None
