"""QStash's token: segments, header and claims that are wrong under a genuine signature."""

from __future__ import annotations

import json
from typing import Any

import jwt
import pytest
from multidict import CIMultiDict

from hookmill.signatures import Refused, Signed, Verified
from hookmill.signatures.qstash import QStash
from tests.signatures.qstash_tokens import (
    BODY,
    BODY_HASH,
    CURRENT,
    HEADER,
    NOW,
    TARGET,
    UNSIGNED_HEAD,
    Gone,
    claims,
    code_of,
    encode,
    sign,
    token,
    verify,
)


def shown(value: object) -> str:
    return ascii(value)[:50]


HEAD, PAYLOAD, SIGNATURE = token().split(".")


@pytest.mark.parametrize(
    "value",
    [
        "",
        ".",
        "..",
        "...",
        HEAD,
        f"{HEAD}.{PAYLOAD}",
        f"{HEAD}.{SIGNATURE}",
        f"{HEAD}..{SIGNATURE}",
        f".{PAYLOAD}.{SIGNATURE}",
        f"{HEAD}.{PAYLOAD}.",
        f"{HEAD}.{PAYLOAD}.{SIGNATURE}.",
        f"{HEAD}.{PAYLOAD}.{SIGNATURE}.{SIGNATURE}",
        f".{HEAD}.{PAYLOAD}.{SIGNATURE}",
        f"Bearer {HEAD}.{PAYLOAD}.{SIGNATURE}",
        f"{HEAD}.{PAYLOAD}.{SIGNATURE}=",
        f"{HEAD}.{PAYLOAD}.{SIGNATURE}\n",
        f"{HEAD}.{PAYLOAD}.{SIGNATURE},{HEAD}.{PAYLOAD}.{SIGNATURE}",
        f"{HEAD}.{PAYLOAD}.{SIGNATURE}" + "A" * 9000,
        "A" * 100_000,
        "." * 100_000,
        "é.é.é",
        "\udcff.\udcfe.\udcfd",
        f"{HEAD}.{PAYLOAD}.\udcff",
    ],
    ids=shown,
)
def test_what_is_not_a_signed_token_is_refused(value: str) -> None:
    assert code_of(verify(value)) in {"token_malformed", "signature_mismatch"}


@pytest.mark.parametrize(
    "header",
    [
        b'{"alg":"none","typ":"JWT"}',
        b'{"alg":"None"}',
        b'{"alg":""}',
        b'{"alg":null}',
        b'{"alg":["HS256"]}',
        b'{"alg":"RS256","typ":"JWT"}',
        b'{"alg":"HS512","typ":"JWT"}',
        b'{"alg":"HS384","typ":"JWT"}',
        b'{"alg":"hs256","typ":"JWT"}',
        b'{"alg":"HS256 ","typ":"JWT"}',
        b'{"alg":"HS256","alg":"none"}',
        b'{"typ":"JWT"}',
        b'{"alg":"HS256","crit":["exp"],"exp":1}',
        b'{"alg":"HS256","crit":["b64"],"b64":false}',
        b'{"alg":"HS256","crit":[]}',
        b'{"alg":"HS256","crit":null}',
        b'{"alg":"HS256","crit":"b64"}',
        b"",
        b"null",
        b'"HS256"',
        b'[{"alg":"HS256"}]',
        b'{"alg":"HS256"',
        b'{"alg":"HS256"}{}',
        b'{"alg":"\xff"}',
        b'\xef\xbb\xbf{"alg":"HS256"}',
        '{"alg":"HS256"}'.encode("utf-16"),
        b"[" * 5000,
        b'{"alg":' * 700,
        b'{"x":' + b"[" * 5000,
    ],
    ids=shown,
)
def test_a_header_that_does_not_say_hs256_is_refused_even_when_it_is_signed(header: bytes) -> None:
    verdict = verify(token(header=header))
    assert verdict == Refused(
        "token_malformed", "Upstash-Signature does not hold a JWT signed with HS256"
    )


def test_a_header_nested_to_the_interpreters_limit_ends_in_a_verdict() -> None:
    # The limit depends on the Python version, but there must never be an exception.
    for depth in (100, 1_000, 2_900):
        nested = b'{"alg":"HS256","x":' + b"[" * depth + b"]" * depth + b"}"
        assert isinstance(verify(token(header=nested)), Verified | Refused)


def test_a_token_without_a_signature_is_refused() -> None:
    assert code_of(verify(f"{UNSIGNED_HEAD}.{PAYLOAD}.")) == "token_malformed"
    assert code_of(verify(f"{HEAD}.{PAYLOAD}.")) == "signature_mismatch"


@pytest.mark.parametrize("algorithm", ["HS384", "HS512"])
def test_a_genuine_token_of_another_algorithm_is_refused(algorithm: str) -> None:
    other = jwt.encode(claims(), CURRENT + "0" * 32, algorithm)
    delivery = Signed(CIMultiDict({"upstash-signature": other}), BODY, TARGET)
    verdict = QStash([CURRENT + "0" * 32]).verify(delivery, NOW)
    assert code_of(verdict) == "token_malformed"


def test_a_token_that_is_too_long_is_refused_though_it_is_genuine() -> None:
    assert verify(token(claims(padding="x" * 5000))) == Verified(0)
    assert code_of(verify(token(claims(padding="x" * 8000)))) == "token_malformed"


@pytest.mark.parametrize(
    "signed",
    [
        b"",
        b".",
        encode(HEADER),
        encode(json.dumps(claims()).encode()),
        b"a.b.c",
        encode(HEADER) + b"." + encode(json.dumps(claims()).encode()) + b".AAAA",
        encode(HEADER) + b"." + encode(json.dumps(claims()).encode()) + b".",
        encode(HEADER) + b".." + encode(json.dumps(claims()).encode()),
    ],
    ids=shown,
)
def test_a_genuine_signature_over_other_than_two_segments_is_refused(signed: bytes) -> None:
    assert code_of(verify(sign(signed))) in {"token_malformed", "claims_malformed"}


@pytest.mark.parametrize("name", ["iss", "sub", "exp", "nbf", "body"])
def test_a_claim_that_must_be_there_is_missed(name: str) -> None:
    verdict = verify(token(claims(**{name: Gone})))
    assert isinstance(verdict, Refused)
    assert verdict.code == "claims_malformed"
    assert f"`{name}`" in verdict.detail


@pytest.mark.parametrize(
    "changes",
    [
        {"exp": str(NOW + 300)},
        {"exp": True},
        {"exp": None},
        {"exp": [NOW + 300]},
        {"exp": float("nan")},  # json.dumps writes NaN and Infinity, which JSON has not
        {"exp": float("inf")},
        {"nbf": str(NOW)},
        {"nbf": False},
        {"nbf": None},
        {"iat": str(NOW)},
        {"iat": None},
        {"iat": float("-inf")},
        {"iss": None},
        {"iss": ["Upstash"]},
        {"sub": 5},
        {"sub": None},
        {"sub": ["https://app.example/qstash"]},
        {"body": 5},
        {"body": None},
        {"body": [BODY_HASH]},
        {"jti": 5},
    ],
    ids=str,
)
def test_a_claim_of_the_wrong_type_is_refused(changes: dict[str, Any]) -> None:
    assert code_of(verify(token(claims(**changes)))) == "claims_malformed"


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"{}",
        b"null",
        b"[]",
        b"5",
        b'"text"',
        b"{",
        b"\xff\xfe",
        b"[" * 5000,
        b'{"exp":' * 700,
        b'{"x":' + b"[" * 2700 + b"]" * 2700 + b"}",
        json.dumps(claims()).encode() + b"x",
        json.dumps(claims()).encode("utf-16"),
        json.dumps(claims(exp=0)).replace('"exp": 0', '"exp": 1e400').encode(),
        json.dumps(claims(exp=0)).replace('"exp": 0', '"exp": ' + "9" * 400).encode(),
        json.dumps(claims(sub="")).replace('"sub": ""', '"sub": "\\ud800"').encode(),
        json.dumps(claims(body="")).replace('"body": ""', '"body": "\\udfff"').encode(),
        json.dumps(claims(iss="X")).encode().replace(b'"X"', b'"\xed\xa0\x80"'),
    ],
    ids=shown,
)
def test_claims_that_are_none_are_refused(payload: bytes) -> None:
    assert code_of(verify(token(payload))) == "claims_malformed"


def test_a_claim_given_twice_counts_as_it_is_given_last() -> None:
    once = json.dumps(claims()).encode()
    assert code_of(verify(token(once[:-1] + b',"exp":0}'))) == "expired"
    assert verify(token(once.replace(b"{", b'{"exp":0,', 1))) == Verified(0)
