"""Tokens of QStash, built as the service builds them, and how they are judged."""

from __future__ import annotations

import base64
import hmac
import json
import time
from typing import Any

from multidict import CIMultiDict

from hookmill.signatures import Refused, Signed, Verdict
from hookmill.signatures.qstash import QStash

# The keys of the published vectors.
CURRENT = "sig_3nj4aiyJ2JojDnQ1RRodpYubZAZxAJxNfQcRSKPwVUNbueYk2o"
NEXT = "sig_31zVqmL3s7Eo1vpu1jRSMpaetJXvAT3RvNcfoGUp1Toii8fsQE"
STRANGER = "sig_6sG1V9Xq0ZbYw3TnRfKc8eLhJpQmUd2A5oEiWx7yNuBvHtPa4"

PUBLIC_URL = "https://app.example"
TARGET = "/qstash"
NOW = 1_700_000_000

BODY = b'{"hello":"world"}'
BODY_HASH = "k6I5cakU5erL8KjSUVTNownDwccvu5kU1Hxg88toFYg="
HEADER = b'{"alg":"HS256","typ":"JWT"}'


class Gone:
    """Stands for a claim that is left out."""


def claims(**changes: Any) -> dict[str, Any]:
    """The claims as the service sets them, with some changed or left out."""
    given = {
        "aud": "",
        "body": BODY_HASH,
        "exp": NOW + 300,
        "iat": NOW,
        "iss": "Upstash",
        "jti": "jwt_7AqGnDKWwKNf6tGT4LgF8jtCDB8j",
        "nbf": NOW,
        "sub": "https://app.example/qstash",
    } | changes
    return {name: value for name, value in given.items() if value is not Gone}


def encode(raw: bytes) -> bytes:
    return base64.urlsafe_b64encode(raw).rstrip(b"=")


def sign(signed: bytes, key: str = CURRENT) -> str:
    """Add the signature's segment to whatever stands before it."""
    return (signed + b"." + encode(hmac.digest(key.encode(), signed, "sha256"))).decode()


def token(
    payload: dict[str, Any] | bytes | None = None, key: str = CURRENT, header: bytes = HEADER
) -> str:
    raw = payload if isinstance(payload, bytes) else json.dumps(payload or claims()).encode()
    return sign(encode(header) + b"." + encode(raw), key)


def verify(
    value: str,
    body: bytes = BODY,
    target: str = TARGET,
    *,
    now: float = NOW + 1,
    public_url: str | None = PUBLIC_URL,
    tolerance: float = 0.0,
) -> Verdict:
    scheme = QStash([CURRENT, NEXT], public_url=public_url, tolerance=tolerance)
    return scheme.verify(Signed(CIMultiDict({"upstash-signature": value}), body, target), now)


def code_of(verdict: Verdict) -> str:
    return verdict.code if isinstance(verdict, Refused) else "verified"


UNSIGNED_HEAD = encode(b'{"alg":"none"}').decode()


def live(**changes: Any) -> dict[str, Any]:
    """Fresh claims; an int given for exp, nbf or iat is seconds from now."""
    now = int(time.time())
    given = {"exp": 300, "iat": -1, "nbf": -1} | changes
    for name in ("exp", "iat", "nbf"):
        if type(given[name]) is int:
            given[name] += now
    return claims(**given)
