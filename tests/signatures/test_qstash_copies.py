"""QStash's token: by what a copy of it is recognised, and for how long."""

from __future__ import annotations

import json
from typing import Any

import pytest

from hookmill.signatures import Token, Verified
from tests.signatures.qstash_tokens import BODY, BODY_HASH, NEXT, NOW, Gone, claims, token, verify


def remembered(value: str, body: bytes = BODY, **options: Any) -> Token | None:
    verdict = verify(value, body, **options)
    assert isinstance(verdict, Verified), verdict
    return verdict.token


def test_a_token_is_remembered_by_what_it_says_however_that_is_spelled() -> None:
    genuine = remembered(token())
    assert genuine is not None
    assert len(genuine.digest) == 16
    assert genuine.expires == NOW + 300
    reordered = json.dumps(dict(reversed(claims().items())), indent=1).encode()
    same = [
        token(reordered),
        token(key=NEXT),
        token(header=b'{"typ":"JWT","alg":"HS256","kid":"1"}'),
        token(claims(body=BODY_HASH.rstrip("="))),
        token(claims(more="and more")),
    ]
    assert [remembered(value) for value in same] == [genuine] * len(same)


@pytest.mark.parametrize(
    "changes",
    [{"jti": "jwt_other"}, {"exp": NOW + 301}, {"sub": "https://app.example/qstash?a=1"}],
)
def test_a_token_that_says_something_else_is_another_one(changes: dict[str, Any]) -> None:
    first, second = (remembered(token(claims(**given)), public_url=None) for given in ({}, changes))
    assert first is not None
    assert second is not None
    assert first.digest != second.digest


@pytest.mark.parametrize("jti", [Gone, None, ""])
def test_a_token_without_a_nonce_is_not_remembered_for_two_may_say_the_same(jti: Any) -> None:
    assert remembered(token(claims(jti=jti))) is None


@pytest.mark.parametrize(
    ("exp", "tolerance", "expires"),
    [
        (NOW + 300, 3.0, NOW + 303),  # as long as it is accepted
        (NOW + 299.2, 0.0, NOW + 300),
        (1e300, 0.0, 2**40),
    ],
)
def test_a_token_is_remembered_until_it_is_refused_anyway(
    exp: float, tolerance: float, expires: int
) -> None:
    found = remembered(token(claims(exp=exp)), tolerance=tolerance)
    assert found is not None
    assert found.expires == expires
