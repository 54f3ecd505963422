"""QStash's token: built as the service builds it, and as Hookmill signs it."""

from __future__ import annotations

import json
import time
from typing import Any

import jwt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from multidict import CIMultiDict

from hookmill.errors import SettingsError
from hookmill.signatures import Refused, Secret, Signed, Verdict, Verified
from hookmill.signatures.qstash import QStash
from tests import fuzz_tokens
from tests.signatures.qstash_tokens import (
    BODY,
    BODY_HASH,
    CURRENT,
    NEXT,
    NOW,
    PUBLIC_URL,
    TARGET,
    Gone,
    claims,
    code_of,
    live,
    token,
    verify,
)

VECTOR_TOKEN = (
    "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9"
    ".eyJhdWQiOiIiLCJib2R5IjoicFpHbTFBdjBJRUJLQVJjeno3ZXhrTllzWmI4THphTXJWN0ozMmEyZkZHND0iLCJleHAi"
    "OjE2NTc1MzA3NTYsImlhdCI6MTY1NzUzMDQ1NiwiaXNzIjoiVXBzdGFzaCIsImp0aSI6Imp3dF83QXFHbkRLV3dLTmY2dE"
    "dUNExnRjhqdENEQjhqIiwibmJmIjoxNjU3NTMwNDU2LCJzdWIiOiJodHRwczovL3FzdGFzaC1wcm9kLWFuZHJlYXMucmVx"
    "dWVzdGNhdGNoZXIuY29tL3Rlc3QifQ"
    ".GzDXaBRUAqx0KPE-WxfZVVceJll3T1RgxdTRbWPZw8s"
)
VECTOR_URL = "https://qstash-prod-andreas.requestcatcher.com"


# --- genuine tokens ---


@pytest.mark.parametrize(
    ("keys", "public_url", "body", "now", "expected"),
    [
        ([CURRENT, NEXT], VECTOR_URL, b"Hello World", 1657530500, Verified(0)),
        ([NEXT, CURRENT], VECTOR_URL, b"Hello World", 1657530500, Verified(1)),
        ([CURRENT, NEXT], VECTOR_URL, b"Hello World", 1657530756, "expired"),
        ([CURRENT, NEXT], "https://example.com", b"Hello World", 1657530500, "wrong_url"),
        ([CURRENT, NEXT], VECTOR_URL, b"Hello World!", 1657530500, "body_mismatch"),
    ],
    ids=["current key", "as next key", "expired", "other URL", "body changed"],
)
def test_the_published_vectors_get_their_verdict(
    keys: list[str], public_url: str, body: bytes, now: float, expected: Verdict | str
) -> None:
    delivery = Signed(CIMultiDict({"upstash-signature": VECTOR_TOKEN}), body, "/test")
    verdict = QStash(keys, public_url=public_url).verify(delivery, now)
    assert (verdict.code if isinstance(verdict, Refused) else verdict) == expected


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"nbf": -62135596800},  # as the service has sent it since 2026: the year 1
        {"nbf": 0},
        {"nbf": 1.0},
        {"iat": Gone},
        {"iat": 0},
        {"aud": Gone},
        {"aud": None},
        {"aud": []},
        {"jti": Gone},
        {"jti": None},
        {"exp": NOW + 300.5},
        {"exp": 10**26},
        {"body": BODY_HASH.rstrip("=")},
        {"body": BODY_HASH + "="},
        {"tag": {"of": ["a", "later", "release"]}},
    ],
    ids=str,
)
def test_a_token_as_the_service_builds_it_verifies(changes: dict[str, Any]) -> None:
    assert verify(token(claims(**changes))) == Verified(0)


def test_an_empty_body_has_its_hash_too() -> None:
    # The hash as the documentation gives it.
    empty = claims(body="47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU=")
    assert verify(token(empty), b"") == Verified(0)
    assert code_of(verify(token(), b"")) == "body_mismatch"


def test_the_next_key_verifies_and_the_verdict_says_so() -> None:
    assert verify(token(key=NEXT)) == Verified(1)


def test_one_key_alone_is_enough() -> None:
    delivery = Signed(CIMultiDict({"upstash-signature": token()}), BODY, TARGET)
    assert QStash([CURRENT]).verify(delivery, NOW) == Verified(0)
    assert QStash([NEXT]).verify(delivery, NOW) == Refused(
        "signature_mismatch", "no signing key of this source made the signature"
    )


@pytest.mark.parametrize(
    "key",
    [
        "",
        "sig_\udcff",
        "-----BEGIN PUBLIC KEY-----\nMIIBhidden\n-----END PUBLIC KEY-----",
        '{"kty":"oct","k":"hidden"}',
        "ssh-ed25519 AAAAhidden",
    ],
)
def test_a_key_that_is_none_does_not_start_and_is_not_shown(key: str) -> None:
    with pytest.raises(SettingsError) as caught:
        QStash([CURRENT, key])
    assert "hidden" not in str(caught.value)
    assert caught.value.__cause__ is None


# --- signing ---


def test_it_signs_with_every_claim_that_the_service_sets() -> None:
    scheme = QStash([CURRENT, NEXT], public_url=PUBLIC_URL)
    headers = scheme.sign(Signed(CIMultiDict(), BODY, "/qstash?a=%2F"), NOW + 0.9).headers
    assert list(headers) == ["Upstash-Signature"]
    made = headers["Upstash-Signature"]
    assert made.startswith("eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.")
    read = jwt.decode(made, CURRENT, ["HS256"], {"verify_exp": False, "verify_iat": False})
    assert read.pop("jti").startswith("jwt_")
    assert read == {
        "aud": "",
        "body": BODY_HASH,
        "exp": NOW + 300,
        "iat": NOW,
        "iss": "Upstash",
        "nbf": NOW,
        "sub": "https://app.example/qstash?a=%2F",
    }


def test_no_two_tokens_are_the_same() -> None:
    scheme = QStash([CURRENT])
    delivery = Signed(CIMultiDict(), BODY, TARGET)
    assert len({scheme.sign(delivery, NOW).headers["Upstash-Signature"] for _ in range(50)}) == 50


@given(body=st.binary(), target=st.text(), now=st.floats(0, 4e9))
@settings(deadline=None)
def test_what_it_signs_it_verifies(body: bytes, target: str, now: float) -> None:
    target = "/" + target.encode("ascii", "ignore").decode()
    for public_url in (PUBLIC_URL, None):
        scheme = QStash([CURRENT, NEXT], public_url=public_url)
        headers = scheme.sign(Signed(CIMultiDict(), body, target), now).headers
        assert scheme.verify(Signed(headers, body, target), now) == Verified(0)


# --- fields of the header ---


@pytest.mark.parametrize("header", [{"kid": 5}, {"b64": False}], ids=str)
def test_header_fields_we_do_not_know_are_skipped_unless_they_are_critical(
    header: dict[str, Any],
) -> None:
    # As RFC 7515 has it. PyJWT knows these two, and objects to them.
    value = token(live(), header=json.dumps({"alg": "HS256"} | header).encode())
    assert not fuzz_tokens.pyjwt_verifies(value.encode())
    assert verify(value, now=time.time()) == Verified(0)


# --- windows of keys, and the explanation ---


def test_a_key_counts_only_in_its_window_and_the_first_that_counts_signs() -> None:
    delivery = Signed(CIMultiDict(), b"{}", "/qstash")
    old, new = Secret("old-key", ends=NOW), Secret("new-key", starts=NOW)
    scheme = QStash([old, new])
    signed_before = scheme.sign(delivery, NOW - 1)
    assert scheme.verify(signed_before, NOW - 1) == Verified(0)
    assert code_of(scheme.verify(signed_before, NOW + 1)) == "signature_mismatch"
    assert scheme.verify(scheme.sign(delivery, NOW), NOW) == Verified(1)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "claim iss: 'Upstash', as it should be"),
        ({"iss": "Downstash"}, "claim iss: 'Downstash', it should be Upstash"),
        ({"exp": NOW - 5}, f"claim exp: {NOW - 5:.0f}, expired 5 s ago; 0 s are tolerated"),
        ({"nbf": NOW + 5}, f"{NOW + 5:.0f} and {NOW:.0f}, begins in 5 s; 0 s are tolerated"),
        ({"sub": "https://b.example/"}, "claim sub: 'https://b.example/', another URL than https:"),
        ({"body": "x"}, "claim body: not the hash of these "),
        ({"exp": 1e300}, "claim exp: 1000000"),
        ({"jti": None}, "claim body: the hash of these "),
    ],
)
def test_the_explanation_tells_each_claim_and_ends_in_the_same_verdict(
    changes: dict[str, Any], said: str
) -> None:
    headers = CIMultiDict({"Upstash-Signature": token(claims(**changes))})
    delivery = Signed(headers, BODY, TARGET)
    scheme = QStash([CURRENT], public_url=PUBLIC_URL)
    told: list[str] = []
    assert scheme.explain(delivery, NOW, told.append) == scheme.verify(delivery, NOW)
    assert any(said in line for line in told), told
    assert CURRENT not in "".join(told)
