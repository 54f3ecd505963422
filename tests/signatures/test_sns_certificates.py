"""SNS: where its certificate and its confirmation may come from, and which certificates count."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given, settings
from hypothesis import strategies as st

from hookmill.signatures.certificates import MAX_AGE, MAX_CERTIFICATES
from hookmill.signatures.scheme import NeedsCertificate, Refused, Verified
from hookmill.signatures.sns import SNS
from tests.authority import DAY, damaged, rsa_key, self_signed, short_key
from tests.signatures.sns_messages import (
    CERTIFICATE,
    CONFIRM,
    ELSEWHERE,
    HOST,
    ISSUER,
    KEY,
    NOW,
    OTHER_TOPIC,
    TOPIC,
    URL,
    code_of,
    delivery,
    message,
    question,
    scheme,
    sign,
    verify,
)

# --- where the certificate may be had from ---


@pytest.mark.parametrize("url", ELSEWHERE)
def test_a_certificate_elsewhere_is_refused_before_anything_is_fetched(url: str) -> None:
    body = sign(message(SigningCertURL=url))
    assert code_of(SNS([TOPIC]).verify(delivery(body), NOW)) == "certificate_elsewhere"
    assert code_of(SNS([TOPIC]).learn(url, CERTIFICATE, NOW) or Verified(0)) == (
        "certificate_malformed"
    )


# --- certificates ---


@pytest.mark.parametrize(
    ("pem", "code"),
    [
        (b"", "certificate_malformed"),
        (b"<html>come back later</html>", "certificate_malformed"),
        (
            b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            "certificate_malformed",
        ),
        (ISSUER.issue(["sns.amazonaws.com"], KEY, ends=-1), "certificate_expired"),
        (ISSUER.issue(["sns.amazonaws.com"], KEY, starts=10), "certificate_not_yet_valid"),
        (self_signed("sns.amazonaws.com", KEY, NOW), "certificate_untrusted"),
        (ISSUER.issue(["sns.amazonaws.com.evil.com"], KEY), "certificate_not_theirs"),
        (ISSUER.issue(["*.amazonaws.com"], KEY), "certificate_not_theirs"),
        (ISSUER.issue(["sns.us-east-1.amazonaws.com"], KEY), "certificate_not_theirs"),
        (ISSUER.pem, "certificate_not_theirs"),
        (ISSUER.issue(["sns.amazonaws.com"], short_key()), "certificate_weak"),
        (
            ISSUER.issue(["sns.amazonaws.com"], ec.generate_private_key(ec.SECP256R1())),
            "certificate_weak",
        ),
    ],
)
def test_a_certificate_that_is_no_good_is_refused_and_not_remembered(pem: bytes, code: str) -> None:
    made = SNS([TOPIC])
    refused = made.learn(URL, pem, NOW)
    assert refused is not None
    assert refused.code == code
    assert made.verify(delivery(sign(message())), NOW) == NeedsCertificate(URL)


def test_a_certificate_with_another_key_does_not_verify() -> None:
    made = SNS([TOPIC])
    assert made.learn(URL, ISSUER.issue(["sns.amazonaws.com"], rsa_key("other")), NOW) is None
    assert code_of(made.verify(delivery(sign(message())), NOW)) == "signature_mismatch"


def test_a_certificate_counts_for_its_own_url_alone() -> None:
    other = f"https://{HOST}/other.pem"
    assert code_of(verify(message(SigningCertURL=other))) == "needs_certificate"


def test_a_certificate_is_forgotten_after_a_day_or_when_it_ends() -> None:
    patient = {"tolerance": 1e9}
    assert verify(message(), NOW + MAX_AGE - 1, **patient) == Verified(0)
    assert verify(message(), NOW + MAX_AGE, **patient) == NeedsCertificate(URL)
    made = SNS([TOPIC], **patient)  # type: ignore[arg-type]
    assert made.learn(URL, ISSUER.issue(["sns.amazonaws.com"], KEY, ends=DAY / 2), NOW) is None
    assert made.verify(delivery(sign(message())), NOW + DAY / 2 - 2) == Verified(0)
    assert made.verify(delivery(sign(message())), NOW + DAY / 2) == NeedsCertificate(URL)


def test_few_certificates_are_remembered() -> None:
    made = scheme()
    for number in range(3 * MAX_CERTIFICATES):
        assert made.learn(f"https://{HOST}/{number}.pem", CERTIFICATE, NOW) is None
    assert len(made._keys) == MAX_CERTIFICATES
    assert made.verify(delivery(sign(message())), NOW) == NeedsCertificate(URL)


# --- confirming ---


def test_the_url_that_confirms_is_given_for_what_asks_and_for_nothing_else() -> None:
    made = scheme()
    assert made.confirmation_of(sign(question())) == CONFIRM
    assert made.confirmation_of(sign(message())) is None
    # GETting that one would subscribe again.
    assert made.confirmation_of(sign(question(Type="UnsubscribeConfirmation"))) is None
    assert made.confirmation_of(b"{}") is None


@pytest.mark.parametrize(
    "url",
    [
        CONFIRM.replace("https", "http"),
        CONFIRM.replace(HOST, "169.254.169.254"),
        CONFIRM.replace(HOST, f"{HOST}.evil.com"),
        CONFIRM.replace(HOST, f"{HOST}:444"),
        CONFIRM.replace(HOST, f"evil@{HOST}"),
        CONFIRM.replace(HOST, f"{HOST}@evil.com"),
        CONFIRM.replace(HOST, "sns.us-east-1.amazonaws.com"),
        CONFIRM.replace("ConfirmSubscription", "DeleteTopic"),
        CONFIRM.replace(TOPIC, OTHER_TOPIC),
        CONFIRM.replace("/?", "/x?"),
        CONFIRM + "&Action=DeleteTopic",
        CONFIRM + "&Other=1",
        CONFIRM + "#x",
        CONFIRM + " ",
        "",
    ],
)
def test_a_question_that_leads_elsewhere_is_refused_though_it_is_signed(url: str) -> None:
    body = sign(question(SubscribeURL=url))
    assert code_of(scheme().verify(delivery(body), NOW)) == "confirmation_elsewhere"
    assert scheme().confirmation_of(body) is None


# --- whatever comes ---


@given(edits=st.lists(st.tuples(st.integers(0, 4000), st.integers(0, 255)), min_size=1, max_size=4))
@settings(max_examples=500)
def test_a_damaged_certificate_raises_nothing(edits: list[tuple[int, int]]) -> None:
    refused = SNS([TOPIC]).learn(URL, damaged(CERTIFICATE, edits), NOW)
    assert refused is None or isinstance(refused, Refused)
