"""Compares our verification of mutated tokens with PyJWT's `jwt.decode` under the same conditions.
Both have to agree, except for the differences that `REASONS` lists.

    python -m tests.fuzz_tokens --tokens 100000 --seed 7

One seed makes one list of mutations. The tokens have the time of the run, because PyJWT always uses
the real clock. A shorter run is part of the suite (tests/signatures/test_qstash.py).
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import hmac
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

import jwt
from multidict import CIMultiDict

from hookmill.signatures import Signed, Verified
from hookmill.signatures.qstash import HEADER, QStash

CURRENT = "sig_3nj4aiyJ2JojDnQ1RRodpYubZAZxAJxNfQcRSKPwVUNbueYk2o"
NEXT = "sig_31zVqmL3s7Eo1vpu1jRSMpaetJXvAT3RvNcfoGUp1Toii8fsQE"
STRANGER = "sig_6sG1V9Xq0ZbYw3TnRfKc8eLhJpQmUd2A5oEiWx7yNuBvHtPa4"

BODY = b'{"hello":"world"}'
BODY_HASH = base64.urlsafe_b64encode(hashlib.sha256(BODY).digest()).decode()
JOSE_HEADER = b'{"alg":"HS256","typ":"JWT"}'

PIECES = b'0123456789"{}[],:.-+eE \t\ntfnulas_=\\\xff\x00\x80AZ'
VALUES: list[Any] = [
    *(None, True, False, 0, 1, -1, 0.0, 1.5, -0.0, 1e300, 2**70, -(2**70), "", "0", "5", " 5", "x"),
    *("4000000000", "nan", "1e9", [], [""], ["x"], {}, {"a": 1}, "Upstash", BODY_HASH, "\u00fc"),
    *(float("nan"), float("inf"), float("-inf")),
]

REASONS = {
    # We accept:
    "not UTF-8": "in a field that we skip unread; PyJWT reads all fields",
    "kid is no text": "PyJWT demands a text; we skip fields that we do not use",
    "b64 is false": "PyJWT wants it listed as critical; we skip fields that are not listed there",
    "jti is null": "PyJWT demands a text; for us a null token ID is a missing one",
    # PyJWT accepts:
    "b64 is critical": "it knows b64; we refuse every critical extension that we do not know",
    "no JSON": "it reads NaN and Infinity, which are not JSON",
    "named twice": "both use the last value, but we check the type of each",
    "time is text": "it calls int(); QStash sends numbers",
    "time is true or false": "it reads true as 1; QStash sends numbers",
    "audience is falsy": "it reads any falsy value as none; we accept what QStash sends",
    "padding": "it accepts padding; we accept only the canonical spelling",
}
"""Why the two may disagree on a token."""


class Token(NamedTuple):
    """A token, and the parts that it was made of. The parts are empty if the token was changed
    after it was signed.
    """

    text: bytes
    header: bytes = b""
    payload: bytes = b""


class Disagreement(NamedTuple):
    """A token that only one of the two accepts. `reason` is "" if none is known."""

    token: Token
    ours: bool
    reason: str


class Report(NamedTuple):
    """The result of a run."""

    tokens: int
    accepted: int
    disagreements: list[Disagreement]

    @property
    def unexplained(self) -> list[Disagreement]:
        return [one for one in self.disagreements if not one.reason]


def run(tokens: int, seed: int) -> Report:
    """Verify that many mutated tokens with both."""
    dice = random.Random(seed)
    scheme = QStash([CURRENT, NEXT])
    accepted, disagreements = 0, []
    for token in made(tokens, dice):
        text = token.text.decode("utf-8", "surrogateescape")
        delivery = Signed(CIMultiDict({HEADER: text}), BODY)
        mine = isinstance(scheme.verify(delivery, time.time()), Verified)
        accepted += mine
        if mine != pyjwt_verifies(token.text):
            disagreements.append(Disagreement(token, mine, reason_of(token, ours=mine)))
    return Report(tokens, accepted, disagreements)


def pyjwt_verifies(text: bytes) -> bool:
    """Return whether `jwt.decode` accepts the token with one of the two keys."""
    for key in (CURRENT, NEXT):
        try:
            claims = jwt.decode(
                text,
                key,
                ["HS256"],
                {"require": ["iss", "sub", "exp", "nbf"]},
                issuer="Upstash",
            )
            return bool(claims["body"].rstrip("=") == BODY_HASH.rstrip("="))
        except jwt.InvalidSignatureError:
            continue
        except (jwt.PyJWTError, KeyError, AttributeError):
            return False
        except OverflowError:  # PyJWT does not catch it for int() of an infinite number
            return False
    return False


# --- making tokens ---


def made(tokens: int, dice: random.Random) -> Iterator[Token]:
    for _ in range(tokens):
        header, claims = JOSE_HEADER, claims_now()
        payload = json.dumps(claims, separators=(",", ":")).encode()
        key = dice.choices((CURRENT, NEXT, STRANGER), (6, 3, 1))[0]
        match dice.randrange(6):
            case 0:  # changed after it was signed
                yield Token(mutated(signed(header, payload, key), dice))
                continue
            case 1:
                header = mutated(header, dice)
            case 2:
                payload = mutated(payload, dice)
            case 3:
                payload = json.dumps(other_claims(claims, dice)).encode()
            case 4:
                header = json.dumps(other_header(dice)).encode()
            case _:
                header, payload = mutated(header, dice), mutated(payload, dice)
        yield Token(signed(header, payload, key), header, payload)


def claims_now() -> dict[str, Any]:
    """The claims as QStash sets them."""
    now = int(time.time())
    times = {"exp": now + 3600, "iat": now - 60, "nbf": now - 60}
    names = {"iss": "Upstash", "sub": "https://app.example/qstash", "jti": "jwt_7AqGnDKWwKNf6tGT"}
    return {"aud": "", "body": BODY_HASH, **times, **names}


def other_claims(claims: dict[str, Any], dice: random.Random) -> dict[str, Any]:
    """Remove, change or add some claims."""
    changed = dict(claims)
    for _ in range(dice.choice((1, 1, 2, 3))):
        name = dice.choice([*claims, "other"])
        if dice.randrange(4):
            changed[name] = dice.choice(VALUES)
        else:
            changed.pop(name, None)
    return changed


def other_header(dice: random.Random) -> dict[str, Any]:
    """Make a header with fields that some JWT library gives a meaning."""
    changed: dict[str, Any] = {"alg": "HS256", "typ": "JWT"}
    for _ in range(dice.choice((1, 2))):
        name = dice.choice(("alg", "typ", "kid", "crit", "b64", "jwk", "zip", "cty", "other"))
        others = ["HS384", "none", "hs256", "RS256", "JWT", ["b64"], ["exp"], *VALUES]
        changed[name] = dice.choice(others)
    return changed


def mutated(raw: bytes, dice: random.Random) -> bytes:
    """Change, remove, insert or double a few bytes."""
    changed = bytearray(raw)
    for _ in range(dice.choice((1, 1, 1, 2, 3))):
        place, until = dice.randrange(len(changed)), dice.randrange(1, 12)
        match dice.randrange(5):
            case 0:
                changed[place] = dice.choice(PIECES)
            case 1:
                changed.insert(place, dice.choice(PIECES))
            case 2:
                del changed[place]
            case 3:
                del changed[place : place + until]
            case _:
                changed[place:place] = changed[place - until * 3 : place]
        if not changed:
            break
    return bytes(changed)


def signed(header: bytes, payload: bytes, key: str) -> bytes:
    text = encoded(header) + b"." + encoded(payload)
    return text + b"." + encoded(hmac.digest(key.encode(), text, "sha256"))


def encoded(raw: bytes) -> bytes:
    return base64.urlsafe_b64encode(raw).rstrip(b"=")


# --- the reasons ---


def reason_of(token: Token, *, ours: bool) -> str:
    """Return why the two disagree on a token, or "" if no reason is known. `ours`: only we accept
    it; otherwise only PyJWT does.
    """
    if not token.payload:
        return "padding" if b"=" in token.text and not ours else ""
    parts = (token.header, token.payload)
    if any(not _is_utf8(part) for part in parts):
        return "not UTF-8" if ours else ""
    header, claims = (json.loads(part) for part in parts)
    if ours:
        found = {
            "kid is no text": not isinstance(header.get("kid", ""), str),
            "b64 is false": header.get("b64") is False and "crit" not in header,
            "jti is null": claims.get("jti", "") is None,
        }
    else:
        times = [claims.get(name, 0) for name in ("exp", "iat", "nbf")]
        found = {
            "b64 is critical": header.get("crit") == ["b64"] and header.get("b64") is not False,
            "no JSON": any(_constants(part) for part in parts),
            "named twice": any(_names_twice(part) for part in parts),
            "time is text": any(isinstance(one, str) for one in times),
            "time is true or false": any(isinstance(one, bool) for one in times),
            "audience is falsy": claims.get("aud", "x") in (0, {}),
        }
    return next((reason for reason, applies in found.items() if applies), "")


def _is_utf8(part: bytes) -> bool:
    try:
        part.decode()
    except UnicodeDecodeError:
        return False
    return True


def _constants(part: bytes) -> list[str]:
    found: list[str] = []
    json.loads(part, parse_constant=found.append)
    return found


def _names_twice(part: bytes) -> bool:
    names = [name for name, _ in json.loads(part, object_pairs_hook=list)]
    return len(names) != len(set(names))


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--tokens", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=random.randrange(2**32))
    given = parser.parse_args(arguments)
    report = run(given.tokens, given.seed)
    print(f"seed {given.seed}: {report.tokens} tokens, {report.accepted} accepted by us")
    reasons = Counter((one.reason, one.ours) for one in report.disagreements)
    for (reason, ours), count in sorted(reasons.items()):
        who = "we accept" if ours else "PyJWT accepts"
        print(f"{count:7}  {who}: {reason or 'UNEXPLAINED'}: {REASONS.get(reason, '')}")
    for one in report.unexplained[:20]:
        print("UNEXPLAINED", one)
    print(
        "FAILED: disagreements without a reason"
        if report.unexplained
        else "no disagreement without a reason"
    )
    return 1 if report.unexplained else 0


if __name__ == "__main__":
    sys.exit(main())
