"""PayPal: what is signed and what is not, which hosts count, and which certificates."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import zlib
from typing import Any

import pytest
from cryptography.hazmat.primitives.hashes import SHA1, SHA256
from hypothesis import given, settings
from hypothesis import strategies as st
from multidict import CIMultiDict

from hookmill.config.trust_store import system_roots
from hookmill.errors import SettingsError
from hookmill.signatures.certificates import MAX_AGE, MAX_CERTIFICATES, certificates_in
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
    NetworkVerdict,
    Refused,
    Secret,
    Signed,
    Verified,
)
from tests.authority import Issuer, damaged, rsa_key, self_signed, short_key, signature

NOW = 1_779_460_951.0
SENT = "2026-05-22T14:42:31Z"
WEBHOOK = "9XL90610J3647323C"
TRANSMISSION = "d938e770-8046-11e6-8103-6b62a8a99ac4"
URL = "https://api.paypal.com/v1/notifications/certs/CERT-360caa42-fca2a594-a5cafa77"
BODY = b'{"id":"WH-9UG43882HX7271132-6E0871324L7949614","event_type":"PAYMENT.SALE.COMPLETED"}'
NAME = "messageverificationcerts.paypal.com"
KEY = rsa_key("paypal")
ROOT = Issuer("Trusted root", NOW)
BETWEEN = Issuer("Intermediate", NOW, ROOT)
STRANGER = Issuer("Trusted root", NOW)  # only its name is that of one we trust
CHAIN = BETWEEN.issue([NAME], KEY) + BETWEEN.pem


def headers(body: bytes = BODY, **changes: str) -> CIMultiDict[str]:
    """Sign as PayPal does, whatever stands in the headers."""
    said = {"id": TRANSMISSION, "time": SENT, "webhook": WEBHOOK, "url": URL} | changes
    content = f"{said['id']}|{said['time']}|{said['webhook']}|{zlib.crc32(body)}"
    made = signature(KEY, content.encode("utf-8", "surrogateescape"), SHA256())
    return CIMultiDict(
        {
            ID: said["id"],
            TIME: said["time"],
            SIGNATURE: base64.b64encode(made).decode(),
            CERTIFICATE: said["url"],
            ALGORITHM: "SHA256withRSA",
        }
    )


def scheme(*webhook_ids: str | Secret, **options: Any) -> PayPal:
    made = PayPal(webhook_ids or (WEBHOOK,), ROOT.pem, **options)
    assert made.learn(URL, CHAIN, NOW) is None
    return made


def verify(
    sent: CIMultiDict[str], body: bytes = BODY, now: float = NOW, **options: Any
) -> NetworkVerdict:
    return scheme(**options).verify(Signed(sent, body), now)


def code_of(verdict: NetworkVerdict | None) -> str:
    if isinstance(verdict, NeedsCertificate):
        return "needs_certificate"
    return verdict.code if isinstance(verdict, Refused) else "verified"


def with_crc_of(body: bytes, wanted: bytes) -> bytes:
    """Put four bytes behind a body so that its CRC32 is that of another."""
    table = [zlib.crc32(bytes([n])) ^ zlib.crc32(b"\0") for n in range(256)]
    state, goal = zlib.crc32(body) ^ 0xFFFFFFFF, zlib.crc32(wanted) ^ 0xFFFFFFFF
    steps = []
    for _ in range(4):
        steps.append(next(n for n in range(256) if table[n] >> 24 == goal >> 24))
        goal = ((goal ^ table[steps[-1]]) << 8) & 0xFFFFFFFF
    patch = []
    for step in reversed(steps):
        patch.append((state ^ step) & 0xFF)
        state = (state >> 8) ^ table[step]
    return body + bytes(patch)


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


# --- where the certificate may be had from ---

PATH = "/v1/notifications/certs/CERT-1"


@pytest.mark.parametrize("host", ["api.paypal.com", "api.sandbox.paypal.com", "api-m.paypal.com"])
def test_paypals_own_hosts_are_asked(host: str) -> None:
    url = f"https://{host}{PATH}"
    assert verify(headers(url=url)) == NeedsCertificate(url)


@pytest.mark.parametrize(
    "url",
    [
        f"http://api.paypal.com{PATH}",
        f"HTTPS://api.paypal.com{PATH}",
        f"https://api.paypal.com.evil.com{PATH}",
        f"https://api.paypal.com.{PATH}",
        f"https://API.PAYPAL.COM{PATH}",
        f"https://api.paypal.com:443{PATH}",
        f"https://api.paypal.com:8443{PATH}",
        f"https://api.paypal.com@evil.com{PATH}",
        f"https://evil.com@api.paypal.com{PATH}",
        f"https://evil.com/api.paypal.com{PATH}",
        f"https://evil.com#api.paypal.com{PATH}",
        f"https://evil.com?api.paypal.com{PATH}",
        f"https://evil.com\\api.paypal.com{PATH}",
        f"https://evil.com\\.paypal.com{PATH}",
        f"https://evilpaypal.com{PATH}",
        f"https://evil-paypal.com{PATH}",
        f"https://paypal.com{PATH}",
        f"https://.paypal.com{PATH}",
        f"https://api..paypal.com{PATH}",
        f"https://api.paypal.co{PATH}",
        f"https://api.paypalxcom{PATH}",
        f"https://apixpaypal.com{PATH}",
        f"https://api.p\u0430ypal.com{PATH}",
        f"https://api.paypal\u3002com{PATH}",
        f"https://api\uff0epaypal.com{PATH}",
        f"https://xn--pypal-4ve.com{PATH}",
        f"https://127.0.0.1{PATH}",
        f"https://[::1]{PATH}",
        f"https:/api.paypal.com{PATH}",
        f"//api.paypal.com{PATH}",
        f" https://api.paypal.com{PATH}",
        f"https://api.paypal.com{PATH}\n",
        f"https://api.paypal.com{PATH}?to=evil.com",
        f"https://api.paypal.com{PATH}#x",
        "https://api.paypal.com/../x",
        "https://api.paypal.com//evil.com",
        "https://api.paypal.com/%2e%2e",
        "https://api.paypal.com/",
        "https://api.paypal.com",
        "file:///etc/passwd",
        "",
        "\udcff",
    ],
)
def test_a_certificate_elsewhere_is_refused_before_anything_is_fetched(url: str) -> None:
    assert code_of(verify(headers(url=url))) == "certificate_elsewhere"
    assert code_of(PayPal([WEBHOOK], ROOT.pem).learn(url, CHAIN, NOW)) == "certificate_malformed"


# --- certificates ---


@pytest.mark.parametrize(
    "pem",
    [
        CHAIN,
        BETWEEN.pem + BETWEEN.issue([NAME], KEY),  # in any order
        ROOT.issue([NAME], KEY),
        BETWEEN.issue(["messageverificationcerts.sandbox.paypal.com"], KEY) + BETWEEN.pem,
        b"# a comment\n" + CHAIN + ROOT.pem,
    ],
)
def test_a_certificate_that_a_trusted_authority_vouches_for_counts(pem: bytes) -> None:
    made = PayPal([WEBHOOK], ROOT.pem)
    assert made.learn(URL, pem, NOW) is None
    assert made.verify(Signed(headers(), BODY), NOW) == Verified(0)


def test_an_authority_between_that_is_not_sent_can_be_trusted_itself() -> None:
    leaf = BETWEEN.issue([NAME], KEY)
    refused = PayPal([WEBHOOK], ROOT.pem).learn(URL, leaf, NOW)
    assert code_of(refused) == "certificate_untrusted"
    assert PayPal([WEBHOOK], ROOT.pem + BETWEEN.pem).learn(URL, leaf, NOW) is None


@pytest.mark.parametrize(
    ("pem", "code"),
    [
        (b"", "certificate_malformed"),
        (b"<html>come back later</html>", "certificate_malformed"),
        (
            b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            "certificate_malformed",
        ),
        (ROOT.issue([NAME], KEY, ends=-1), "certificate_expired"),
        (ROOT.issue([NAME], KEY, starts=10), "certificate_not_yet_valid"),
        (self_signed(NAME, KEY, NOW), "certificate_untrusted"),
        (STRANGER.issue([NAME], KEY), "certificate_untrusted"),
        (STRANGER.issue([NAME], KEY) + STRANGER.pem, "certificate_untrusted"),
        (STRANGER.issue([NAME], KEY) + ROOT.pem, "certificate_untrusted"),
        # One that is vouched for beside one that is not.
        (STRANGER.issue([NAME], KEY) + CHAIN, "certificate_untrusted"),
        (ROOT.issue(["evil.com"], KEY), "certificate_not_theirs"),
        (ROOT.issue(["www.paypal.com"], KEY), "certificate_not_theirs"),
        (ROOT.issue([f"{NAME}.evil.com"], KEY), "certificate_not_theirs"),
        (ROOT.issue(["messageverificationcerts.evilpaypal.com"], KEY), "certificate_not_theirs"),
        (ROOT.issue(["*.paypal.com"], KEY), "certificate_not_theirs"),
        (ROOT.pem, "certificate_not_theirs"),
        (ROOT.issue([NAME], short_key()), "certificate_weak"),
    ],
)
def test_a_certificate_that_is_no_good_is_refused_and_not_remembered(pem: bytes, code: str) -> None:
    made = PayPal([WEBHOOK], ROOT.pem)
    assert code_of(made.learn(URL, pem, NOW)) == code
    assert made.verify(Signed(headers(), BODY), NOW) == NeedsCertificate(URL)


def test_an_authority_that_has_ended_vouches_for_nothing() -> None:
    later = NOW + 400 * 86_400
    leaf = BETWEEN.issue([NAME], KEY, ends=500 * 86_400) + BETWEEN.pem
    assert code_of(PayPal([WEBHOOK], ROOT.pem).learn(URL, leaf, later)) == "certificate_untrusted"


def test_a_leaf_is_no_authority() -> None:
    # A genuine certificate of the same authority, for another name, must not count as PayPal's.
    impostor = Issuer("Impostor", NOW)
    made = BETWEEN.issue(["evil.com"], rsa_key("evil")) + BETWEEN.pem
    forged = impostor.issue([NAME], KEY)
    assert code_of(PayPal([WEBHOOK], ROOT.pem).learn(URL, forged + made, NOW)) == (
        "certificate_untrusted"
    )


def test_a_certificate_is_forgotten_after_a_day() -> None:
    assert verify(headers(), now=NOW + MAX_AGE - 1) == Verified(0)
    assert verify(headers(), now=NOW + MAX_AGE) == NeedsCertificate(URL)


def test_few_certificates_are_remembered() -> None:
    made = scheme()
    for number in range(2 * MAX_CERTIFICATES):
        assert made.learn(f"{URL}{number}", CHAIN, NOW) is None
    assert len(made._keys) == MAX_CERTIFICATES
    assert made.verify(Signed(headers(), BODY), NOW) == NeedsCertificate(URL)


@pytest.mark.parametrize(
    ("ids", "roots"),
    [([], ROOT.pem), ([""], ROOT.pem), (["a|b"], ROOT.pem), ([WEBHOOK], b""), ([WEBHOOK], b"x")],
)
def test_what_cannot_work_does_not_start(ids: list[str], roots: bytes) -> None:
    with pytest.raises(SettingsError):
        PayPal(ids, roots)


def test_the_machines_own_authorities_can_be_trusted_and_do_not_know_ours() -> None:
    roots = system_roots()
    assert len(certificates_in(roots)) > 20
    assert code_of(PayPal([WEBHOOK], roots).learn(URL, CHAIN, NOW)) == "certificate_untrusted"


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


@given(edits=st.lists(st.tuples(st.integers(0, 4000), st.integers(0, 255)), min_size=1, max_size=4))
@settings(max_examples=500)
def test_a_damaged_certificate_is_refused(edits: list[tuple[int, int]]) -> None:
    chain = damaged(CHAIN, edits)
    refused = PayPal([WEBHOOK], ROOT.pem).learn(URL, chain + BETWEEN.pem, NOW)
    assert isinstance(refused, Refused) or chain == damaged(CHAIN, [])
