"""QStash's token: damaged, old, or for another body or URL, it is refused for its true cause."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any

import pytest
from multidict import CIMultiDict

from hookmill.signatures import Refused, Signed, Verified
from hookmill.signatures.qstash import QStash
from tests.signatures.qstash_tokens import (
    BODY,
    BODY_HASH,
    CURRENT,
    NEXT,
    NOW,
    STRANGER,
    TARGET,
    Gone,
    claims,
    code_of,
    encode,
    token,
    verify,
)

# --- tampering ---


@pytest.mark.parametrize("segment", [0, 1, 2], ids=["header", "claims", "signature"])
def test_every_changed_byte_of_the_token_is_refused(segment: int) -> None:
    segments = token().split(".")
    text = segments[segment]
    for place, old in enumerate(text):
        for new in {"A", "B", "_", ".", "=", "", old + old, old + "=", "\udcff", " "} - {old}:
            changed = [*segments]
            changed[segment] = text[:place] + new + text[place + 1 :]
            verdict = verify(".".join(changed))
            assert code_of(verdict) in {"token_malformed", "signature_mismatch"}, (place, new)


def test_the_last_characters_unused_bits_are_refused() -> None:
    # 32 bytes end in a character with two bits to spare: four spellings of one signature.
    genuine = token()
    spellings = [
        genuine[:-1] + last for last in "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvw"
    ]
    signatures = [base64.urlsafe_b64decode(each.rpartition(".")[2] + "=") for each in spellings]
    original = base64.urlsafe_b64decode(genuine.rpartition(".")[2] + "=")
    same = [each for each, raw in zip(spellings, signatures, strict=True) if raw == original]
    assert len(same) > 1
    accepted = [each for each in {*same, genuine} if verify(each) == Verified(0)]
    assert accepted == [genuine]


@pytest.mark.parametrize(
    ("claim", "value"),
    [
        ("aud", "someone"),
        ("body", "47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU="),
        ("exp", NOW + 9999),
        ("iat", NOW - 1),
        ("iss", "Upstart"),
        ("jti", "jwt_other"),
        ("nbf", NOW - 1),
        ("sub", "https://app.example/other"),
    ],
)
def test_every_changed_claim_is_refused_under_the_old_signature(claim: str, value: Any) -> None:
    head, _, signature = token().split(".")
    forged = f"{head}.{encode(json.dumps(claims(**{claim: value})).encode()).decode()}.{signature}"
    assert code_of(verify(forged)) == "signature_mismatch"


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"aud": "someone"}, "wrong_audience"),
        ({"aud": ["", "someone"]}, "wrong_audience"),
        ({"aud": False}, "wrong_audience"),
        ({"aud": 0}, "wrong_audience"),
        ({"aud": {}}, "wrong_audience"),
        ({"body": "47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU="}, "body_mismatch"),
        ({"body": ""}, "body_mismatch"),
        ({"body": "="}, "body_mismatch"),
        ({"body": "=" + BODY_HASH}, "body_mismatch"),
        ({"body": BODY_HASH[:-2]}, "body_mismatch"),
        ({"body": BODY_HASH.swapcase()}, "body_mismatch"),
        ({"body": BODY_HASH.replace("k", "\u212a")}, "body_mismatch"),
        ({"body": hashlib.sha256(BODY).hexdigest()}, "body_mismatch"),
        ({"exp": NOW + 1}, "expired"),
        ({"exp": 0}, "expired"),
        ({"exp": -1e308}, "expired"),
        ({"iat": NOW + 2}, "not_yet_valid"),
        ({"iss": "upstash"}, "wrong_issuer"),
        ({"iss": ""}, "wrong_issuer"),
        ({"nbf": NOW + 2}, "not_yet_valid"),
        ({"sub": "https://app.example/qstash/"}, "wrong_url"),
    ],
    ids=str,
)
def test_every_wrong_claim_is_refused_as_itself(changes: dict[str, Any], code: str) -> None:
    assert code_of(verify(token(claims(**changes)))) == code


def test_every_changed_byte_of_the_body_is_refused() -> None:
    for place in range(len(BODY)):
        for forged in (
            BODY[:place] + bytes([BODY[place] ^ 1]) + BODY[place + 1 :],
            BODY[:place] + BODY[place + 1 :],
            BODY[:place] + b" " + BODY[place:],
        ):
            assert code_of(verify(token(), forged)) == "body_mismatch", forged


@pytest.mark.parametrize(
    "body",
    [b"\xff\xfe", b'{"hello": "world"}', b'{"hello":"world"}\n', b"\xef\xbb\xbf" + BODY],
)
def test_the_body_counts_in_its_raw_bytes(body: bytes) -> None:
    assert code_of(verify(token(), body)) == "body_mismatch"
    padded = base64.urlsafe_b64encode(hashlib.sha256(body).digest()).decode()
    assert verify(token(claims(body=padded)), body) == Verified(0)


# --- the true cause ---


@pytest.mark.parametrize(
    ("key", "changes", "body", "refused"),
    [
        (
            CURRENT,
            {"exp": NOW - 59},
            BODY,
            Refused("expired", "the token expired 60 s ago"),
        ),
        (
            NEXT,
            {},
            b"other",
            Refused("body_mismatch", "the body is not the one that was signed"),
        ),
        (
            NEXT,
            {"nbf": NOW + 61},
            BODY,
            Refused("not_yet_valid", "the token is valid only in 60 s"),
        ),
        (
            CURRENT,
            {"sub": "https://old.example/qstash"},
            BODY,
            Refused(
                "wrong_url",
                "the token is for another URL than the public URL with the received path and query",
            ),
        ),
        (
            CURRENT,
            {"exp": Gone},
            BODY,
            Refused(
                "claims_malformed",
                "the token is genuine, its claims are not: Object missing required field `exp`",
            ),
        ),
        (
            STRANGER,
            {"exp": NOW - 59},
            b"other",
            Refused("signature_mismatch", "no signing key of this source made the signature"),
        ),
    ],
    ids=["expired", "next key", "next key, early", "URL", "claims", "stranger"],
)
def test_the_cause_that_is_reported_is_the_true_one(
    key: str, changes: dict[str, Any], body: bytes, refused: Refused
) -> None:
    assert verify(token(claims(**changes), key), body) == refused


# --- the clock ---


@pytest.mark.parametrize(
    ("changes", "clock", "tolerance", "code"),
    [
        # exp: the token ends at this very second, plus the tolerance.
        ({}, 299.9, 0, "verified"),
        ({}, 300, 0, "expired"),
        ({}, 304.9, 5, "verified"),
        ({}, 305, 5, "expired"),
        # nbf: from this very second on, less the tolerance.
        ({"iat": NOW - 9}, 0, 0, "verified"),
        ({"iat": NOW - 9}, -0.1, 0, "not_yet_valid"),
        ({"iat": NOW - 9}, -5, 5, "verified"),
        ({"iat": NOW - 9}, -5.1, 5, "not_yet_valid"),
        # iat, which the official receiver's tolerance does not reach.
        ({"nbf": -62135596800}, 0, 0, "verified"),
        ({"nbf": -62135596800}, -0.1, 0, "not_yet_valid"),
        ({"nbf": -62135596800}, -5, 5, "verified"),
        ({"nbf": -62135596800}, -5.1, 5, "not_yet_valid"),
    ],
)
def test_the_tolerance_covers_exp_nbf_and_iat(
    changes: dict[str, Any], clock: float, tolerance: float, code: str
) -> None:
    verdict = verify(token(claims(**changes)), now=NOW + clock, tolerance=tolerance)
    assert code_of(verdict) == code


# --- headers ---


def test_a_missing_header_is_refused() -> None:
    scheme = QStash([CURRENT, NEXT])
    verdict = scheme.verify(Signed(CIMultiDict(), BODY, TARGET), NOW)
    assert verdict == Refused("header_missing", "there is no Upstash-Signature header")


@pytest.mark.parametrize("second", [token(), token(key=STRANGER), ""])
def test_a_second_header_is_refused(second: str) -> None:
    scheme = QStash([CURRENT, NEXT])
    for pair in ((token(), second), (second, token())):
        headers = CIMultiDict([("Upstash-Signature", pair[0]), ("upstash-signature", pair[1])])
        assert code_of(scheme.verify(Signed(headers, BODY, TARGET), NOW)) == "header_repeated"


# --- the URL ---


@pytest.mark.parametrize(
    ("public_url", "target", "sub", "code"),
    [
        ("https://app.example", "/qstash", "https://app.example/qstash", "verified"),
        ("https://app.example/", "/qstash", "https://app.example/qstash", "verified"),
        ("https://app.example", "/qstash?a=1", "https://app.example/qstash?a=1", "verified"),
        ("https://app.example", "/q?a=%2F&b=ü", "https://app.example/q?a=%2F&b=ü", "verified"),
        ("https://app.example:8443", "/q", "https://app.example:8443/q", "verified"),
        # The query counts, to the letter and in its order.
        ("https://app.example", "/qstash", "https://app.example/qstash?a=1", "wrong_url"),
        ("https://app.example", "/qstash?a=1", "https://app.example/qstash", "wrong_url"),
        ("https://app.example", "/qstash?", "https://app.example/qstash", "wrong_url"),
        ("https://app.example", "/q?a=%2F", "https://app.example/q?a=/", "wrong_url"),
        ("https://app.example", "/q?a=1&b=2", "https://app.example/q?b=2&a=1", "wrong_url"),
        # A destination without a path is requested as "/".
        ("https://app.example", "/", "https://app.example", "verified"),
        ("https://app.example", "/", "https://app.example/", "verified"),
        ("https://app.example", "/?a=1", "https://app.example?a=1", "verified"),
        ("https://app.example", "/?a=1", "https://app.example/?a=1", "verified"),
        ("https://app.example", "/", "https://app.example//", "wrong_url"),
        ("https://app.example", "//", "https://app.example/", "wrong_url"),
        ("https://app.example", "/a/", "https://app.example/a", "wrong_url"),
        ("https://app.example", "/a", "https://app.example/a/", "wrong_url"),
        # A load balancer that takes a prefix off the path.
        ("https://app.example/hooks", "/qstash", "https://app.example/hooks/qstash", "verified"),
        ("https://app.example/hooks/", "/qstash", "https://app.example/hooks/qstash", "verified"),
        ("https://app.example/hooks", "/", "https://app.example/hooks", "verified"),
        ("https://app.example/hooks", "/qstash", "https://app.example/qstash", "wrong_url"),
        # Another place.
        ("https://app.example", "/qstash", "http://app.example/qstash", "wrong_url"),
        ("https://app.example", "/qstash", "https://app.example:443/qstash", "wrong_url"),
        ("https://app.example", "/qstash", "https://app.example.evil/qstash", "wrong_url"),
        ("https://app.example", ".evil/qstash", "https://app.example/qstash", "wrong_url"),
        ("https://app.example", "/qstash", "https://APP.example/qstash", "wrong_url"),
        ("https://app.example", "/qstash", "https://app.example/QSTASH", "wrong_url"),
        ("https://app.example", "/qstash", "", "wrong_url"),
        ("https://app.example", "/qstash", "/qstash", "wrong_url"),
        ("https://app.example", "", "https://app.example/qstash", "wrong_url"),
        ("https://app.example", "/\udcff", "https://app.example/qstash", "wrong_url"),
        # Without a public URL there is nothing to compare with.
        (None, "/qstash", "https://anywhere.example/at/all", "verified"),
        (None, "/qstash", "", "verified"),
        ("", "/qstash", "https://anywhere.example/at/all", "verified"),
    ],
)
def test_the_token_must_be_for_the_public_url_with_the_received_path_and_query(
    public_url: str | None, target: str, sub: str, code: str
) -> None:
    verdict = verify(token(claims(sub=sub)), target=target, public_url=public_url)
    assert code_of(verdict) == code
