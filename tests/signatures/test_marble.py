"""Marble's HMAC: the plain form over the body, signing in both forms, and any bytes."""

from __future__ import annotations

import hmac

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from multidict import CIMultiDict

from hookmill.errors import SettingsError
from hookmill.signatures import Refused, Signed, Verdict, Verified
from hookmill.signatures.marble import marble_scheme
from tests.signatures.marble_deliveries import (
    BODY,
    DIGEST,
    NOW,
    PUBLISHED_BODY,
    PUBLISHED_HEADERS,
    SECRET,
    TIMESTAMPED_BODY,
    code_of,
    verify,
)

OTHER = "marble_other_secret"


# --- the plain form ---


def test_the_senders_own_output_verifies() -> None:
    delivery = Signed(CIMultiDict(PUBLISHED_HEADERS), PUBLISHED_BODY)
    # The time it carries is not signed, so it is not judged either: years later is as good.
    assert marble_scheme([SECRET]).verify(delivery, NOW) == Verified(0)
    assert marble_scheme([SECRET]).verify(delivery, NOW * 2) == Verified(0)


@pytest.mark.parametrize(
    ("body", "digest"),
    [
        (
            b"",
            "f26a3bad57655a4ddfff275b9aadad76f1de8507fad86ac2d70f76a1b10deb19",
        ),
        (BODY, DIGEST),
        (
            b'{"event":"post.updated","data":{"id":"p","slug":"s","title":"t","userId":"u"}}',
            "9a0489e0824a40b7c3ed38dbd9279c7e9995dc064f6a541a79b7ce710a634ff7",
        ),
    ],
    ids=["empty", "json", "older generation"],
)
def test_the_prefix_is_optional(body: bytes, digest: str) -> None:
    assert verify(digest, body) == Verified(0)
    assert verify(f"sha256={digest}", body) == Verified(0)


@pytest.mark.parametrize(
    "signature",
    [
        "",
        "sha256=",
        DIGEST.upper(),
        f"sha256={DIGEST.upper()}",
        f"SHA256={DIGEST}",
        f"sha256={DIGEST} ",
        f" sha256={DIGEST}",
        f"sha256= {DIGEST}",
        f"sha256=sha256={DIGEST}",
        f"sha1={DIGEST}",
        f"{DIGEST}0",
        f"0{DIGEST}",
        DIGEST[:-1],
        DIGEST[:32],
        f"{DIGEST},{DIGEST}",
        f"t=1779460951,v1={DIGEST}",
        "+DNmG13z01Ncu+oGGvhOO0tGGpdaWnvRarPUQfpqgbQ=",  # the same digest in base64
        DIGEST.replace("f", "\uff46"),  # full-width letters
        DIGEST.replace("3", "\u0663"),  # Arabic digits
        "\udcff\udcfe",  # bytes that are not UTF-8
        "é" * 64,
    ],
)
def test_only_the_digest_in_lower_case_hex_is_the_signature(signature: str) -> None:
    assert code_of(verify(signature)) == "signature_mismatch"


def test_every_changed_digit_of_the_signature_is_refused() -> None:
    for place, digit in enumerate(DIGEST):
        changed = "0" if digit != "0" else "1"
        forged = DIGEST[:place] + changed + DIGEST[place + 1 :]
        assert code_of(verify(forged)) == "signature_mismatch", place


def test_every_changed_byte_of_the_body_is_refused() -> None:
    for place in range(len(BODY)):
        for forged in (
            BODY[:place] + bytes([BODY[place] ^ 1]) + BODY[place + 1 :],
            BODY[:place] + BODY[place + 1 :],
            BODY[:place] + b" " + BODY[place:],
        ):
            assert code_of(verify(DIGEST, forged)) == "signature_mismatch", forged


def test_a_missing_signature_is_refused_and_so_is_a_second_one() -> None:
    scheme = marble_scheme([SECRET])
    none = scheme.verify(Signed(CIMultiDict(), BODY), NOW)
    assert none == Refused("header_missing", "there is no x-marble-signature header")
    two = CIMultiDict([("x-marble-signature", "0" * 64), ("X-Marble-Signature", DIGEST)])
    assert code_of(scheme.verify(Signed(two, BODY), NOW)) == "header_repeated"


@pytest.mark.parametrize(
    ("secrets", "verdict"),
    [
        ((SECRET, OTHER), Verified(0)),
        ((OTHER, SECRET), Verified(1)),
        (("a", "b", SECRET), Verified(2)),
        (
            (OTHER, "a"),
            Refused(
                "signature_mismatch",
                "x-marble-signature is not the HMAC-SHA256 (lower-case hex) of the body under "
                "a secret of this source",
            ),
        ),
    ],
)
def test_any_of_several_secrets_verifies_and_the_verdict_says_which(
    secrets: tuple[str, ...], verdict: Verdict
) -> None:
    assert verify(DIGEST, secrets=secrets) == verdict


def test_the_key_is_the_secrets_text_and_never_what_its_hex_digits_stand_for() -> None:
    secret = "c0ffee" * 10 + "beef"
    assert len(secret) == 64
    as_text = hmac.digest(secret.encode(), BODY, "sha256").hex()
    as_bytes = hmac.digest(bytes.fromhex(secret), BODY, "sha256").hex()
    assert verify(as_text, secrets=(secret,)) == Verified(0)
    assert code_of(verify(as_bytes, secrets=(secret,))) == "signature_mismatch"


@pytest.mark.parametrize("secrets", [("",), (SECRET, ""), ("hush\udcff",)])
def test_a_secret_that_keeps_nobody_out_does_not_start(secrets: tuple[str, ...]) -> None:
    with pytest.raises(SettingsError):
        marble_scheme(secrets)


# --- signing, and whatever comes ---


def test_it_signs_with_its_first_secret() -> None:
    delivery = Signed(CIMultiDict(), BODY)
    assert marble_scheme([SECRET, OTHER]).sign(delivery, NOW + 0.9).headers == {
        "x-marble-signature": f"sha256={DIGEST}"
    }
    assert marble_scheme([SECRET, OTHER], with_time=True).sign(delivery, NOW + 0.9).headers == {
        "x-marble-signature": f"sha256={TIMESTAMPED_BODY}",
        "x-marble-timestamp": "1779460951",
    }


@given(body=st.binary(), timestamped=st.booleans(), now=st.floats(0, 4e9))
@settings(deadline=None)
def test_what_it_signs_it_verifies(body: bytes, timestamped: bool, now: float) -> None:
    scheme = marble_scheme([SECRET], with_time=timestamped)
    headers = scheme.sign(Signed(CIMultiDict(), body), now).headers
    assert scheme.verify(Signed(headers, body), now) == Verified(0)


@given(
    signature=st.binary(),
    timestamp=st.binary() | st.integers().map(lambda n: str(n).encode()),
    body=st.binary(),
    timestamped=st.booleans(),
)
@settings(deadline=None)
def test_any_bytes_end_in_a_refusal_that_shows_no_secret(
    signature: bytes, timestamp: bytes, body: bytes, timestamped: bool
) -> None:
    headers = CIMultiDict(
        {
            "x-marble-signature": signature.decode("utf-8", "surrogateescape"),
            "x-marble-timestamp": timestamp.decode("utf-8", "surrogateescape"),
        }
    )
    scheme = marble_scheme([SECRET, OTHER], with_time=timestamped)
    verdict = scheme.verify(Signed(headers, body), NOW)
    assert isinstance(verdict, Refused)
    assert SECRET not in verdict.detail
    assert OTHER not in verdict.detail
    verdict.detail.encode()  # it can be logged and sent
