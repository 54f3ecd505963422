"""PayPal: where its certificate may come from, and which certificates count."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hookmill.config.trust_store import system_roots
from hookmill.errors import SettingsError
from hookmill.signatures.certificates import MAX_AGE, MAX_CERTIFICATES, certificates_in
from hookmill.signatures.paypal import PayPal
from hookmill.signatures.scheme import NeedsCertificate, Refused, Signed, Verified
from tests.authority import Issuer, damaged, rsa_key, self_signed, short_key
from tests.signatures.paypal_deliveries import (
    BETWEEN,
    BODY,
    CHAIN,
    KEY,
    NAME,
    NOW,
    ROOT,
    URL,
    WEBHOOK,
    code_of,
    headers,
    scheme,
    verify,
)

STRANGER = Issuer("Trusted root", NOW)  # only its name is that of one we trust


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


# --- whatever comes ---


@given(edits=st.lists(st.tuples(st.integers(0, 4000), st.integers(0, 255)), min_size=1, max_size=4))
@settings(max_examples=500)
def test_a_damaged_certificate_is_refused(edits: list[tuple[int, int]]) -> None:
    chain = damaged(CHAIN, edits)
    refused = PayPal([WEBHOOK], ROOT.pem).learn(URL, chain + BETWEEN.pem, NOW)
    assert isinstance(refused, Refused) or chain == damaged(CHAIN, [])
