"""The one verifier: no border in what is signed can be moved, and what is accepted only once."""

from __future__ import annotations

import hashlib
import hmac
import math
import re
from collections.abc import Iterator

import msgspec
import pytest

from hookmill.signatures import Refused, Signed, Token, Verified
from hookmill.signatures.content import FoundSignatures, SpecReader
from hookmill.signatures.spec import SignatureSpec
from hookmill.signatures.spec_verifier import SpecVerifier
from tests.signatures.senders import (
    ALL,
    NOW,
    SYMMETRIC,
    code_of,
    delivery,
    genuine,
    scheme_of,
    spec_of,
    with_header,
    with_headers,
)

# --- borders ---

SOON = "2026-05-22T14:45:00.5Z"

BORDERED = {
    # Bodies that could lend the time, or the ID, a little.
    "twitch": f'{{"at":"{SOON}","also":"2026-05-22T14:42:31Z"}}'.encode(),
    "discord": b"1779460951" + b"0",
    "sendgrid": b"17794609511779460951[]",
    "ghost": b'{"n":1779460951000}1779460951000',
    "hubspot": b"[1779460951000,1779460951000" + b"1779460951001",
    "square": b"/hook?a=1{}",
    "mailgun": b"{}",
    "standard-webhooks": b".1779460951.1779460951.{}",
    "slack": b":1779460951:{}",
    "stripe": b"1779460951.{}",
    "paddle": b"1779460951:{}",
}


def content_of(name: str, signed: Signed) -> bytes:
    """What was signed."""
    reader, spec = SpecReader(spec_of(name)), spec_of(name)
    found = reader.signatures(signed)
    assert isinstance(found, FoundSignatures)
    time = reader.value(spec.timestamp, signed, found) if spec.timestamp else b""
    assert isinstance(time, bytes)
    contents = reader.contents(signed, found, time)
    assert isinstance(contents, list)
    return contents[0]


def splits_of(name: str, signed: Signed) -> Iterator[Signed]:
    """Every way to cut what was signed into the fields that the sender has."""
    content = content_of(name, signed)
    spec = spec_of(name)
    if "{id}" in spec.content:
        yield from _splits_in_three(name, signed, content)
        return
    first, *others = re.split(r"\{[^}]+\}", spec.content)
    start = len(b"POST" + signed.url.encode()) if name == "hubspot" else len(first)
    gap = len(others[0])
    for end in range(start, len(content) + 1):
        before, after = content[start:end], content[end + gap :]
        match name:
            case "square":  # the URL's share is requested, the rest is the body
                target = before.decode().removeprefix("https://app.example") or "/"
                yield signed._replace(target=target, body=after)
            case "mailgun":
                body = msgspec.json.decode(signed.body)
                body["signature"] |= {"timestamp": before.decode(), "token": after.decode()}
                yield signed._replace(body=msgspec.json.encode(body))
            case "ghost" | "hubspot":
                yield placed(name, signed, after.decode("latin-1"), before)
            case _:
                yield placed(name, signed, before.decode("latin-1"), after)


def _splits_in_three(name: str, signed: Signed, content: bytes) -> Iterator[Signed]:
    spec, length = spec_of(name), len(content)
    gap = len(spec.content.split("{id}")[1].split("{timestamp}")[0])
    for first in range(length + 1):
        for second in range(first + gap, min(first + gap + 40, length) + 1):
            time = content[first + gap : second].decode("latin-1")
            moved = placed(name, signed, time, content[second + gap :])
            header = spec.id[0].removeprefix("header:")
            yield with_header(moved, header, content[:first].decode("latin-1"))


def placed(name: str, signed: Signed, time: str, body: bytes) -> Signed:
    """The delivery with another time and body."""
    spec = spec_of(name)
    kind, _, place = spec.timestamp.partition(":")
    if kind == "item":
        header = spec.signature.partition(":")[2]
        mark = f"{place}{spec.pair}"
        value = re.sub(f"{mark}[0-9]+", lambda _: mark + time, signed.headers[header])
        return with_header(signed, header, value)._replace(body=body)
    return with_header(signed, place, time)._replace(body=body)


def is_same(first: Signed, second: Signed) -> bool:
    a, b = (sorted((k.lower(), v) for k, v in one.headers.items()) for one in (first, second))
    return a == b and first[1:] == second[1:]


@pytest.mark.parametrize("name", sorted(BORDERED))
def test_no_border_in_what_is_signed_can_be_moved(name: str) -> None:
    signed, scheme = genuine(name, BORDERED[name]), scheme_of(name)
    assert scheme.verify(signed, NOW) == Verified(0)
    content, spec = content_of(name, signed), spec_of(name)
    count = 0
    for moved in splits_of(name, signed):
        # The clock may stand anywhere: a replay comes when it likes.
        for now in (NOW, NOW + spec.tolerance * 0.9, NOW + 150.5):
            verdict = scheme.verify(moved, now)
            is_genuine = is_same(moved, signed) or (
                # The URL is the configured one, whatever was requested.
                name == "square" and moved.body == signed.body
            )
            assert isinstance(verdict, Verified) <= is_genuine, (moved, now)
            count += not is_genuine
    assert count > len(content)


def test_twitchs_time_is_the_first_that_stands_there() -> None:
    # The body's own time is as fresh as the one that was signed for freshness.
    signed = genuine("twitch", BORDERED["twitch"])
    content = content_of("twitch", signed)
    start = content.index(SOON.encode())
    forged = with_headers(
        signed,
        Twitch_Eventsub_Message_Id=content[:start].decode(),
        Twitch_Eventsub_Message_Timestamp=SOON,
    )._replace(body=content[start + len(SOON) :])
    assert code_of(scheme_of("twitch").verify(forged, NOW)) == "field_malformed"


@pytest.mark.parametrize(
    ("content", "headers", "body", "code"),
    [
        ("{header:X-A}|{body}", {"X-A": "a"}, b"b|c", "verified"),
        ("{header:X-A}|{body}", {"X-A": "a|b"}, b"c", "field_malformed"),
        ("{body}|{header:X-A}", {"X-A": "c"}, b"a|b", "verified"),
        ("{body}|{header:X-A}", {"X-A": "b|c"}, b"a", "field_malformed"),
        ("{header:X-A}aa{body}", {"X-A": "xa"}, b"b", "field_malformed"),  # x + aa + ab
        ("{body}aa{header:X-A}", {"X-A": "ax"}, b"b", "field_malformed"),
        ("{body}|{header:X-A}!", {"X-A": "b!"}, b"a", "verified"),  # the end is the end
    ],
)
def test_a_field_that_holds_its_border_is_refused(
    content: str, headers: dict[str, str], body: bytes, code: str
) -> None:
    scheme = SpecVerifier(
        SignatureSpec(signature="header:X-Signature", content=content), ["secret"]
    )
    values = {f"{{header:{name}}}": value for name, value in headers.items()}
    text = re.sub(r"\{[^}]+\}", lambda m: values.get(m[0], body.decode()), content)
    digest = SpecVerifier(SignatureSpec(signature="header:X-Signature"), ["secret"])
    signature = digest.sign(delivery(text.encode()), NOW).headers["X-Signature"]
    given_ = delivery(body, {**headers, "X-Signature": signature})
    assert code_of(scheme.verify(given_, NOW)) == code


# --- deliveries that must not be accepted twice ---


def token_of(name: str, signed: Signed, now: float = NOW) -> Token | None:
    verdict = scheme_of(name).verify(signed, now)
    assert isinstance(verdict, Verified)
    return verdict.token


def test_mailguns_token_is_good_once_until_its_time_is_too_far() -> None:
    first = genuine("mailgun", b'{"event-data":{"event":"opened"}}')
    token = token_of("mailgun", first)
    body = msgspec.json.decode(first.body)
    said = body["signature"]["token"].encode()
    expires = math.ceil(int(body["signature"]["timestamp"]) + 9 * 3600)
    assert token == Token(hashlib.blake2b(said, digest_size=16).digest(), expires)
    # Whatever is put behind the same token has the same token.
    forged = first._replace(body=msgspec.json.encode({**body, "event-data": {"event": "forged"}}))
    assert token_of("mailgun", forged, NOW + 60) == token
    assert token_of("mailgun", genuine("mailgun")) != token


@pytest.mark.parametrize(
    ("written", "code"),
    [
        # Content that the fast pass cannot read is read by the slow one, or refused with a reason.
        (b'{"signature":{"signature":"S","timestamp":T,"token":"t"}}', "verified"),
        (b'{"signature":{"token":1,"token":"t","timestamp":"T","signature":"S"}}', "verified"),
        (b'{"signature":7,"signature":{"token":"t","timestamp":"T","signature":"S"}}', "verified"),
        (
            b'{"signature":{"token":"t","timestamp":"T","signature":"0","signature":"S"}}',
            "verified",
        ),
        (
            b'{"signature":{"token":"t","timestamp":"T","signature":"S","signature":"0"}}',
            "signature_mismatch",
        ),
        (
            b'{"signature":{"token":"t","timestamp":"T","signature":"S"},"signature":{}}',
            "field_missing",
        ),
        (b'{"signature":{"token":"u","timestamp":"T","signature":"S"}}', "signature_mismatch"),
        (b'{"signature":{"token":["t"],"timestamp":"T","signature":"S"}}', "field_missing"),
        (b'{"signature":{"token":"t","timestamp":true,"signature":"S"}}', "field_missing"),
        (b'{"signature":{"token":"t","timestamp":"0T","signature":"S"}}', "timestamp_malformed"),
        (b'{"signature":{"token":"t","timestamp":"T","signature":null}}', "field_missing"),
        (b'{"signature":{"token":"t","timestamp":"T","signature":"S"}}x', "field_missing"),
        (b'[{"signature":{"token":"t","timestamp":"T","signature":"S"}}]', "field_missing"),
    ],
    ids=lambda value: ascii(value)[:60],
)
def test_mailguns_fields_are_read_as_json_is(written: bytes, code: str) -> None:
    stamp = str(int(NOW)).encode()
    digest = hmac.digest(SYMMETRIC["mailgun"].encode(), stamp + b"t", "sha256").hex()
    body = written.replace(b'"S"', f'"{digest}"'.encode()).replace(b"T", stamp)
    verdict = scheme_of("mailgun").verify(delivery(body), NOW)
    assert code_of(verdict) == code
    if isinstance(verdict, Verified):
        assert verdict.single_use == b"t"


@pytest.mark.parametrize("name", ALL)
def test_a_delivery_with_a_signed_time_is_protected_from_copies_unless_its_id_is_signed_too(
    name: str,
) -> None:
    spec, signed = spec_of(name), genuine(name)
    token = token_of(name, signed)
    assert (token is not None) == (bool(spec.timestamp) and "{id}" not in spec.content)
    if token is None:
        return
    assert token.expires == math.ceil(NOW + spec.tolerance)
    # As long as it is remembered it is accepted, and no longer.
    assert isinstance(scheme_of(name).verify(signed, token.expires), Verified)
    assert isinstance(scheme_of(name).verify(signed, token.expires + 1), Refused)
    if name != "mailgun":
        # An unsigned change leaves it the same delivery. A signed change makes it another one.
        assert token_of(name, with_headers(signed, X_Request_Id="other")) == token
        for other in (genuine(name, now=NOW + 1), genuine(name, b'{"other":1}')):
            another = token_of(name, other)
            assert another is not None
            assert another.digest != token.digest
