"""The CPU time of verifying a delivery: `python -m benchmarks.verification`.

Each sender's scheme verifies a genuine delivery of 214 bytes, with the headers that a proxy passes
on. It is compared with the plain primitives, `hmac.digest` and `compare_digest` over the signed
bytes, and with `jwt.decode` and the senders' own libraries where they are installed. All run in
turns in one process. A round's value is the best of several tries, because other programs can only
add time.
"""

from __future__ import annotations

import hmac
import importlib
import time
import timeit
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jwt
from multidict import CIMultiDict, CIMultiDictProxy

from benchmarks.harness import SUBJECT, Bench, options, pinned_to, pins
from benchmarks.tables import Table
from hookmill.signatures import Refused, Scheme, Signed, Verified
from hookmill.signatures.content import SpecReader
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
"""Headers beside the sender's own."""

ROUNDS = 20
TURNS = 5
CALLS = 300
OURS = "hookmill"
PRIMITIVE = "hmac.digest and compare_digest"

Verify = Callable[[], object]


class Case(NamedTuple):
    """A measured call: the sender, and the code that verifies its delivery."""

    sender: str
    by: str
    verify: Verify


def received(signed: Signed) -> Signed:
    """Return the delivery as the receiver sees it."""
    headers = CIMultiDict(AROUND)
    headers.update(signed.headers)
    return signed._replace(headers=CIMultiDictProxy(headers))


def cases(chosen: set[str]) -> Iterator[Case]:
    """Return all measured calls, after checking that each accepts its delivery."""
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
    secret, spec = SYMMETRIC.get(sender, ""), scheme.spec
    if not secret or sender in TOKENS:
        return
    reader, key = SpecReader(spec), key_of(spec, secret)
    found = reader.signatures(signed)
    assert not isinstance(found, Refused)
    stamp = reader.value(spec.timestamp, signed, found) if spec.timestamp else b""
    assert not isinstance(stamp, Refused)
    contents = reader.contents(signed, found, stamp)
    assert not isinstance(contents, Refused)
    name = spec.algorithm.removeprefix("hmac-")
    digests = [hmac.digest(key, content, name) for content in contents]
    number = [encode(one, spec.encoding) for one in digests].index(found.signatures[0])
    yield _primitive(sender, key, contents[number], digests[number], name)
    if sender in _LIBRARIES:
        module, by, prepare = _LIBRARIES[sender]
        if library := _library(module):
            yield Case(sender, by, prepare(library, secret, signed))


def _ours(sender: str, scheme: Scheme, signed: Signed, now: float) -> Case:
    verdict = scheme.verify(signed, now)
    assert isinstance(verdict, Verified), (sender, verdict)
    return Case(sender, OURS, lambda: scheme.verify(signed, now))


def _primitive(sender: str, key: bytes, content: bytes, digest: bytes, name: str) -> Case:
    return Case(
        sender, PRIMITIVE, lambda: hmac.compare_digest(hmac.digest(key, content, name), digest)
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
"""Module, name, and a function that returns the call that verifies a delivery."""


# --- measuring ---


def run(bench: Bench, chosen: set[str]) -> None:
    """Run the benchmark: all calls in each round."""
    beside = bench.table(
        "A verdict, and what else verifies the same delivery", "\u00b5s of CPU time", digits=1,
        target="QStash in at most 12 \u00b5s, HMAC schemes in at most 5",
    )  # fmt: skip
    each = bench.table("A verdict", "\u00b5s of CPU time", against=PRIMITIVE, digits=1)
    all_of_them = list(cases(chosen))
    with_others = {case.sender for case in all_of_them if case.by not in {OURS, PRIMITIVE}}
    calls = 10 if bench.quick else CALLS
    for _ in bench.each_round():
        for case in all_of_them:
            timer = timeit.Timer(case.verify, timer=time.process_time)
            took = min(timer.repeat(TURNS, calls)) / calls * 1e6
            if case.sender in with_others:
                beside.put(f"{case.sender}: {case.by}", took)
            _put(each, case, took)


def _put(table: Table, case: Case, took: float) -> None:
    if case.by == OURS:
        table.put(case.sender, took)
    elif (case.sender, case.by) == ("github", PRIMITIVE):
        table.put(PRIMITIVE, took, "over the body alone")


def main(arguments: list[str] | None = None) -> None:
    parser = options(__doc__, ROUNDS, "verification")
    parser.add_argument("senders", nargs="*", help="else all that share a secret with us")
    given = parser.parse_args(arguments)
    with (
        Bench("verification", given, pins(the_process=SUBJECT)) as bench,
        pinned_to(SUBJECT),
    ):
        run(bench, set(given.senders))
        bench.finish()


if __name__ == "__main__":
    main()
