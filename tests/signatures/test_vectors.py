"""The vectors that senders publish get their verdict, and nothing that is signed in a valid one can
be changed. Where the values come from stands in `vectors.json` with each of them.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlsplit

import msgspec
import pytest
from multidict import CIMultiDict

from hookmill.signatures import Refused, Scheme, Signed, Verified
from hookmill.signatures.content import SpecReader
from hookmill.signatures.presets import PRESETS
from hookmill.signatures.qstash import HEADER, QStash
from hookmill.signatures.spec import SignatureSpec
from hookmill.signatures.spec_verifier import SpecVerifier
from tests.signatures.senders import with_header


class Vector(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    preset: str
    kind: str
    valid: bool
    secrets: list[str]
    method: str
    url: str | None
    headers: dict[str, str]
    body: str
    body_sha256: str
    source: dict[str, Any]
    now: float = 1_700_000_000.0  # where the scheme has no time any clock will do
    note: str = ""
    reject_reason: str = ""

    @property
    def spec(self) -> SignatureSpec:
        return PRESETS[self.preset].spec

    @property
    def scheme(self) -> Scheme:
        if self.preset != "qstash":
            return SpecVerifier(self.spec, self.secrets)
        url = urlsplit(self.url or "")
        return QStash(self.secrets, public_url=f"{url.scheme}://{url.netloc}")

    @property
    def delivery(self) -> Signed:
        url = urlsplit(self.url or "/")
        target = url.path + (f"?{url.query}" if url.query else "")
        headers = CIMultiDict(self.headers)
        return Signed(headers, self.body.encode(), target, self.method, self.url or "")


class _File(msgspec.Struct):
    about: str
    vectors: list[Vector]


VECTORS = msgspec.json.decode(
    Path(__file__).with_name("vectors.json").read_bytes(), type=_File
).vectors
VALID = [vector for vector in VECTORS if vector.valid]
SHAPED = [vector for vector in VALID if vector.preset != "qstash"]


def each(vectors: list[Vector]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("vector", vectors, ids=[one.name for one in vectors])


def verifies(vector: Vector, delivery: Signed, now: float | None = None) -> bool:
    verdict = vector.scheme.verify(delivery, vector.now if now is None else now)
    return isinstance(verdict, Verified)


# --- the verdicts ---


def test_the_file_is_whole() -> None:
    assert len(VECTORS) == 42
    assert len(VALID) == 30
    assert all(one.body_sha256 == hashlib.sha256(one.body.encode()).hexdigest() for one in VECTORS)


@each(VALID)
def test_a_valid_vector_is_accepted(vector: Vector) -> None:
    verdict = vector.scheme.verify(vector.delivery, vector.now)
    assert isinstance(verdict, Verified), verdict
    position = {"github/rotation": 1, "qstash/example-as-next-key": 1}.get(vector.name, 0)
    assert verdict.secret == position


@each([vector for vector in VECTORS if not vector.valid])
def test_an_invalid_vector_is_refused(vector: Vector) -> None:
    verdict = vector.scheme.verify(vector.delivery, vector.now)
    assert isinstance(verdict, Refused)
    assert (verdict.code == "timestamp_too_far") == (vector.reject_reason == "stale")


@each(VALID)
def test_another_secret_is_refused(vector: Vector) -> None:
    stranger = {
        "ed25519": "e734ea6c2b6257de72355e472aa05a4c487e6b463c029ed306df2f01b5636b58",
        "ecdsa-p256": (
            "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEqTxd43gyp8IOEto2LdIfjRQrIbsd4SXZkLW6jDutdhXSJCWHw8REntl"
            "o7aNDthvj+y7GjUuFDb/R1NGe1OPzpA=="
        ),
    }
    if vector.preset == "qstash":
        scheme: Scheme = QStash(["sig_of_somebody_else"])
    else:
        secret = stranger.get(vector.spec.algorithm, "c29tZWJvZHkgZWxzZSdzIHNlY3JldA==")
        if vector.preset == "standard-webhooks-v1a":
            secret = base64.b64encode(bytes.fromhex(secret)).decode()
        scheme = SpecVerifier(vector.spec, [secret])
    verdict = scheme.verify(vector.delivery, vector.now)
    assert isinstance(verdict, Refused)
    assert verdict.code == "signature_mismatch"


# --- what is signed cannot be changed ---


class Span(NamedTuple):
    """A stretch of a header, or of the body (no name)."""

    header: str
    start: int
    end: int

    def changed(self, delivery: Signed) -> Iterator[Signed]:
        """Change each of its bytes in several ways."""
        raw = delivery.body if not self.header else delivery.headers[self.header].encode()
        for place in range(self.start, self.end):
            old = raw[place : place + 1]
            for new in {bytes([old[0] ^ bit]) for bit in (1, 2, 16, 32, 128)} | {b"", old + old}:
                mutant = raw[:place] + new + raw[place + 1 :]
                if mutant == raw:  # of two equal neighbours
                    continue
                if not self.header:
                    yield delivery._replace(body=mutant)
                else:
                    text = mutant.decode("utf-8", "surrogateescape")
                    yield with_header(delivery, self.header, text)


def spans_of(vector: Vector) -> dict[str, Span]:
    """Where the vector's signature, signed time and signed ID stand, and the body if it is signed.

    A time or an ID in a signed body is changed with it. What else a header holds, such as Stripe's
    v0, is not read. Mailgun's signature covers a time and a token in the body, and no more of it.
    """
    if vector.preset == "qstash":
        spans = {"signature": Span(HEADER, 0, len(vector.delivery.headers[HEADER]))}
        return spans | {"body": Span("", 0, len(vector.delivery.body))}
    spec, delivery, reader = vector.spec, vector.delivery, SpecReader(vector.spec)
    found = reader.signatures(delivery)
    assert not isinstance(found, Refused)
    (candidate,) = found.signatures
    spans = {"signature": _span(spec.signature, candidate, spec, delivery)}
    if spec.covers_body:
        spans["body"] = Span("", 0, len(delivery.body))
    places = {"time": spec.timestamp, "id": spec.id[0] if spec.id else ""}
    for what, place in places.items():
        if place and place != "body" and "{" not in place and spec.is_signed(place):
            value = reader.value(place, delivery, found)
            if isinstance(value, bytes):
                spans[what] = _span(place, value, spec, delivery)
    return spans


def _span(place: str, value: bytes, spec: SignatureSpec, delivery: Signed) -> Span:
    kind, _, name = place.partition(":")
    header = {"header": name, "item": spec.signature.partition(":")[2]}.get(kind, "")
    text = delivery.headers[header].encode() if header else delivery.body
    mark = f"{name}{spec.pair}".encode() if kind == "item" else b""
    start = text.index(mark + value) + len(mark)
    return Span(header, start, start + len(value))


def is_spelt_otherwise(vector: Vector, body: bytes) -> bool:
    """Whether it is the same form to Twilio, which signs the fields and not how they are written
    (%2B, %2b). Its own validator takes both.
    """
    if vector.preset != "twilio" or "json" in vector.name:
        return False
    ours = vector.body.encode()
    return body.lower() == ours.lower() and parse_qsl(body) == parse_qsl(ours)


@each(VALID)
def test_no_changed_byte_of_what_is_signed_verifies(vector: Vector) -> None:
    spans = spans_of(vector)
    assert verifies(vector, vector.delivery)
    count = 0
    for what, span in spans.items():
        for mutant in span.changed(vector.delivery):
            if what == "body" and is_spelt_otherwise(vector, mutant.body):
                continue
            verdict = vector.scheme.verify(mutant, vector.now)
            assert isinstance(verdict, Refused), (what, mutant)
            count += 1
    assert count > 200


def test_of_each_vector_everything_is_tampered_with_that_its_sender_signs() -> None:
    found = {vector.preset: " ".join(sorted(spans_of(vector))) for vector in VALID}
    in_headers = {"standard-webhooks", "svix", "standard-webhooks-v1a", "openai"}
    with_time = {"slack", "stripe", "sendgrid", "discord", "contentful", "linear"}
    for preset, spans in found.items():
        expected = "body signature"
        if preset in in_headers:
            expected = "body id signature time"
        elif preset in with_time:
            expected = "body signature time"
        if preset in {"stripe", "marble", "sendgrid"}:
            expected = expected.replace("body", "body id")
        if preset == "mailgun":
            expected = "id signature time"
        assert spans == expected, preset


def test_mailguns_event_is_not_signed_and_can_be_changed() -> None:
    (vector,) = [one for one in VALID if one.preset == "mailgun"]
    spec, delivery = vector.spec, vector.delivery
    assert spec.unsigned_body
    assert not spec.is_signed("json:event-data.event")
    forged = delivery.body.replace(b'"event-data"', b'"event-data-before"')
    assert forged != delivery.body
    assert verifies(vector, delivery._replace(body=forged))


# --- headers: one of each, and in one spelling ---


def read_headers(vector: Vector) -> list[str]:
    """The headers that the verdict depends on."""
    if vector.preset == "qstash":
        return [HEADER]
    if vector.preset == "contentful":
        return [*vector.headers["x-contentful-signed-headers"].split(","), "x-contentful-signature"]
    return sorted({span.header for span in spans_of(vector).values()} - {""})


@each(VALID)
def test_a_signed_header_is_refused_when_it_is_missing_or_doubled(vector: Vector) -> None:
    names = read_headers(vector)
    assert names or vector.preset == "mailgun"
    for name in names:
        value = vector.headers[name.lower()]
        for values in ([], [value, value], [value, "other"], ["other", value], [value, ""], [""]):
            verdict = vector.scheme.verify(with_header(vector.delivery, name, *values), vector.now)
            assert isinstance(verdict, Refused), (name, values)
            assert len(values) < 2 or verdict.code == "header_repeated"


def test_mailguns_signature_is_refused_where_a_field_is_missing_or_no_text() -> None:
    (vector,) = [one for one in VALID if one.preset == "mailgun"]
    body = msgspec.json.decode(vector.body)
    for name in ("timestamp", "token", "signature"):
        others: list[object] = [None, [], {}, True, 1.5, "", [body["signature"][name]]]
        for value in others:
            changed = {**body, "signature": {**body["signature"], name: value}}
            mutant = vector.delivery._replace(body=msgspec.json.encode(changed))
            assert not verifies(vector, mutant), (name, value)


def spellings(text: str, encoding: str) -> Iterator[str]:
    """Write a signature otherwise, so that it may decode to the same bytes."""
    yield from (text.upper(), text.swapcase(), f" {text}", f"{text} ", f"{text}\t", f'"{text}"')
    yield from (text + "=", text + "==", text[:-1], text + "\n", text + "\0", text + "A")
    if encoding == "hex":
        yield from (text[:1].upper() + text[1:], "0x" + text, ":".join(text), text.encode().hex())
        return
    yield from (text.rstrip("="), text[:4] + "\n" + text[4:], text[:4] + "=" + text[4:])
    bare = text.rstrip("=")
    padding = text[len(bare) :]
    # The last character has bits to spare: some others decode to the same bytes.
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/-_"
    yield from (bare[:-1] + last + padding for last in alphabet)
    raw = base64.b64decode(text.translate(str.maketrans("-_", "+/")) + "==")
    yield from (raw.hex(), base64.b64encode(raw).decode(), base64.urlsafe_b64encode(raw).decode())


@each(SHAPED)
def test_a_signature_in_another_spelling_is_refused(vector: Vector) -> None:
    span = spans_of(vector)["signature"]
    whole = vector.delivery.headers[span.header] if span.header else vector.body
    text = whole[span.start : span.end]
    count = 0
    for other in spellings(text, vector.spec.encoding):
        if other == text:
            continue
        changed = whole[: span.start] + other + whole[span.end :]
        if span.header:
            mutant = with_header(vector.delivery, span.header, changed)
        else:
            mutant = vector.delivery._replace(body=changed.encode())
        # A list's items may be followed by a separator: nothing is between it and the next.
        if vector.spec.split and other.strip(vector.spec.split) == text:
            continue
        assert not verifies(vector, mutant), other
        count += 1
    assert count > 10


@each([vector for vector in SHAPED if vector.spec.prefix])
def test_a_prefix_in_another_spelling_is_refused(vector: Vector) -> None:
    name = vector.spec.signature.partition(":")[2]
    prefix, value = vector.spec.prefix, vector.headers[name.lower()]
    for other in (prefix.upper(), f" {prefix}", prefix[:-1], prefix * 2, prefix.replace("=", ":")):
        changed = value.replace(prefix, other, 1)
        assert not verifies(vector, with_header(vector.delivery, name, changed)), changed
    bare = with_header(vector.delivery, name, value.removeprefix(prefix))
    assert verifies(vector, bare) == vector.spec.bare


# --- time ---


@each([vector for vector in SHAPED if vector.spec.timestamp])
def test_a_signed_time_may_be_off_as_far_as_is_tolerated_and_no_further(vector: Vector) -> None:
    spec, delivery = vector.spec, vector.delivery
    found = SpecReader(spec).signatures(delivery)
    assert not isinstance(found, Refused)
    text = SpecReader(spec).value(spec.timestamp, delivery, found)
    assert isinstance(text, bytes)
    moment = int(text) / (1000 if spec.unit == "ms" else 1)
    for side in (-1, 1):
        assert verifies(vector, delivery, moment + side * (spec.tolerance - 0.5))
        verdict = vector.scheme.verify(delivery, moment + side * (spec.tolerance + 0.5))
        assert isinstance(verdict, Refused)
        assert verdict.code == "timestamp_too_far"
        assert ("old" if side > 0 else "ahead") in verdict.detail
