"""What a verdict costs: `python -m benchmarks.verification`, from the root.

Each sender's scheme judges a genuine delivery of 214 bytes, among headers as a proxy passes them
on. Beside it stand the plain primitive, `hmac.digest` and `compare_digest` over the bytes that are
signed, and what else verifies the same delivery: `jwt.decode` and the senders' own libraries, where
they are installed. All take turns in one process, round after round, and CPU time is counted: what
else runs on the machine makes the spread, the best round is what the code itself costs.
"""

from __future__ import annotations

import argparse
import hmac
import importlib
import json
import platform
import statistics
import time
import timeit
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jwt
from multidict import CIMultiDict, CIMultiDictProxy

from hookmill.signatures import Refused, Scheme, Signed, Verified
from hookmill.signatures.content import Reader
from hookmill.signatures.keys import encode, key_of
from hookmill.signatures.qstash import DEVELOPMENT_KEYS, HEADER, QStash
from tests.signatures.senders import ASYMMETRIC, SYMMETRIC, TOKENS, URL, genuine, scheme_of

BODY = b'{"id":"evt_1","type":"order.paid","data":{"id":"7","note":"%s"}}' % (b"x" * 152)
FORM = b"CallSid=CA1&Digits=1234&From=%2B14158675309&Note=" + b"x" * 165
assert len(BODY) == len(FORM) == 214

AROUND = {
    "Host": "app.example",
    "User-Agent": "Sender/1.0",
    "Content-Type": "application/json",
    "Content-Length": "214",
    "Accept": "*/*",
    "X-Forwarded-For": "203.0.113.7",
    "X-Forwarded-Proto": "https",
    "X-Request-Id": "5b1f0c9a7d3e2468",
}
"""What stands beside the sender's own headers."""

LIMITS = {"qstash": 12.0}
"""Microseconds that a verdict may take; an HMAC scheme's: 5."""

Verify = Callable[[], object]


class Case(NamedTuple):
    """One thing that is measured: whose deliveries, and who verifies them."""

    sender: str
    by: str
    verify: Verify


class Row(NamedTuple):
    """Microseconds of CPU time, and the ratio to the primitive (1: as fast). `spread` is from the
    tenth to the ninetieth percentile, as a share of the median.
    """

    sender: str
    by: str
    best: float
    median: float
    spread: float
    ratio: float


def received(signed: Signed) -> Signed:
    """Return the delivery as the receiver gets it."""
    headers = CIMultiDict(AROUND)
    headers.update(signed.headers)
    return signed._replace(headers=CIMultiDictProxy(headers))


def cases(chosen: set[str]) -> Iterator[Case]:
    """Make all that is to be measured, and see that each accepts its delivery."""
    for sender, make in {"qstash": _qstash, **dict.fromkeys(SYMMETRIC, _shaped)}.items():
        if not chosen or sender in chosen:
            yield from make(sender)
    for sender in ASYMMETRIC:
        if sender in chosen:
            yield from _shaped(sender)


def _qstash(sender: str) -> Iterator[Case]:
    now = time.time()
    scheme = QStash(DEVELOPMENT_KEYS, public_url="https://app.example", tolerance=3.0)
    signed = received(scheme.sign(Signed(CIMultiDict(), BODY, "/hook"), now))
    yield _ours(sender, scheme, signed, now)
    key, token = DEVELOPMENT_KEYS[0], signed.headers[HEADER]
    content, _, signature = token.rpartition(".")
    digest = hmac.digest(key.encode(), content.encode(), "sha256")
    written = encode(digest, "base64url")
    assert written == signature.encode()
    yield _primitive(sender, key.encode(), content.encode(), digest, "sha256")
    demands: Any = {"require": ["iss", "sub", "exp", "nbf"], "verify_aud": False}
    yield Case(
        sender, "jwt.decode", lambda: jwt.decode(token, key, ["HS256"], demands, issuer="Upstash")
    )
    if library := _library("qstash"):
        receiver = library.Receiver(*DEVELOPMENT_KEYS)
        text = BODY.decode()
        yield Case(
            sender,
            "qstash Receiver",
            lambda: receiver.verify(signature=token, body=text, url="https://app.example/hook"),
        )


def _shaped(sender: str) -> Iterator[Case]:
    now = time.time()
    scheme = scheme_of(sender)
    signed = received(genuine(sender, FORM if sender == "twilio" else BODY, now))
    yield _ours(sender, scheme, signed, now)
    secret, shape = SYMMETRIC.get(sender, ""), scheme.shape
    if not secret or sender in TOKENS:
        return
    reader, key = Reader(shape), key_of(shape, secret)
    reading = reader.signatures(signed)
    assert not isinstance(reading, Refused)
    stamp = reader.value(shape.timestamp, signed, reading) if shape.timestamp else b""
    assert not isinstance(stamp, Refused)
    contents = reader.contents(signed, reading, stamp)
    assert not isinstance(contents, Refused)
    name = shape.algorithm.removeprefix("hmac-")
    digests = [hmac.digest(key, content, name) for content in contents]
    number = [encode(one, shape.encoding) for one in digests].index(reading.candidates[0])
    yield _primitive(sender, key, contents[number], digests[number], name)
    if sender in _LIBRARIES:
        module, by, prepare = _LIBRARIES[sender]
        if library := _library(module):
            yield Case(sender, by, prepare(library, secret, signed))


def _ours(sender: str, scheme: Scheme, signed: Signed, now: float) -> Case:
    verdict = scheme.verify(signed, now)
    assert isinstance(verdict, Verified), (sender, verdict)
    return Case(sender, "hookmill", lambda: scheme.verify(signed, now))


def _primitive(sender: str, key: bytes, content: bytes, digest: bytes, name: str) -> Case:
    return Case(
        sender, "primitive", lambda: hmac.compare_digest(hmac.digest(key, content, name), digest)
    )


# --- the senders' own libraries ---


def _library(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError:
        return None


def _standard(library: Any, secret: str, signed: Signed) -> Verify:
    webhook, headers = library.Webhook(secret), dict(signed.headers)
    return lambda: webhook.verify(signed.body, headers)


def _stripe(library: Any, secret: str, signed: Signed) -> Verify:
    text, header = signed.body.decode(), signed.headers["Stripe-Signature"]
    verify = library.WebhookSignature.verify_header
    return lambda: verify(text, header, secret, tolerance=300)


def _slack(library: Any, secret: str, signed: Signed) -> Verify:
    verifier, headers = library.SignatureVerifier(secret), dict(signed.headers)
    return lambda: verifier.is_valid_request(signed.body, headers)


def _twilio(library: Any, secret: str, signed: Signed) -> Verify:
    validator = library.RequestValidator(secret)
    fields = dict(pair.split("=") for pair in FORM.decode().replace("%2B", "+").split("&"))
    signature = signed.headers["X-Twilio-Signature"]
    return lambda: validator.validate(URL, fields, signature)


_LIBRARIES: dict[str, tuple[str, str, Callable[[Any, str, Signed], Verify]]] = {
    "standard-webhooks": ("standardwebhooks", "standardwebhooks", _standard),
    "svix": ("svix", "svix", _standard),
    "stripe": ("stripe", "stripe", _stripe),
    "slack": ("slack_sdk.signature", "slack_sdk", _slack),
    "twilio": ("twilio.request_validator", "twilio", _twilio),
}
"""Module, name, and what makes a call of it that verifies a delivery."""


# --- measuring ---


def measure(chosen: list[Case], rounds: int, calls: int) -> list[Row]:
    """Have all take turns, so many calls a turn."""
    timers = [timeit.Timer(case.verify, timer=time.process_time) for case in chosen]
    found: list[list[float]] = [[] for _ in chosen]
    for _ in range(rounds):
        for timer, each in zip(timers, found, strict=True):
            each.append(timer.timeit(calls) / calls * 1e6)
    best = {(case.sender, case.by): min(each) for case, each in zip(chosen, found, strict=True)}
    return [_row(case, each, best) for case, each in zip(chosen, found, strict=True)]


def _row(case: Case, turns: list[float], best: Mapping[tuple[str, str], float]) -> Row:
    median = statistics.median(turns)
    tenths = statistics.quantiles(turns, n=10)
    primitive = best.get((case.sender, "primitive"), min(turns))
    return Row(
        *case[:2],
        best=round(min(turns), 2),
        median=round(median, 2),
        spread=round((tenths[-1] - tenths[0]) / median, 2),
        ratio=round(min(turns) / primitive, 2),
    )


def print_table(rows: list[Row]) -> None:
    print(f"{'sender':<20}{'verified by':<18}{'best us':>9}{'median':>9}{'spread':>8}{'ratio':>8}")
    for row in rows:
        limit = LIMITS.get(row.sender, 5.0)
        mark = f"  more than {limit:g}" if row.by == "hookmill" and row.best > limit else ""
        print(
            f"{row.sender:<20}{row.by:<18}{row.best:>9.2f}{row.median:>9.2f}"
            f"{row.spread:>7.0%}{row.ratio:>8.1f}{mark}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("senders", nargs="*", help="else all that share a secret with us")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--calls", type=int, default=400, help="calls a turn")
    parser.add_argument("--json", type=Path, metavar="FILE")
    given = parser.parse_args()
    rows = measure(list(cases(set(given.senders))), given.rounds, given.calls)
    print_table(rows)
    print(f"Python {platform.python_version()}, {platform.machine()}; CPU time, one process")
    if given.json:
        machine = {"python": platform.python_version(), "machine": platform.machine()}
        report = {**machine, "when": time.strftime("%F"), "rows": [row._asdict() for row in rows]}
        given.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
