"""The one verifier: secrets and their windows, borders that cannot be moved, what is remembered,
what is explained, and a verdict on whatever comes.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import math
import re
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from multidict import CIMultiDict

from hookmill.errors import SettingsError
from hookmill.signatures import Refused, Signed, Token, Verified
from hookmill.signatures.content import MAX_SIGNATURES, FoundSignatures, SpecReader
from hookmill.signatures.presets import PRESETS
from hookmill.signatures.scheme import Secret
from hookmill.signatures.spec import SignatureSpec
from hookmill.signatures.spec_verifier import SpecVerifier
from tests.signatures.senders import (
    ASYMMETRIC,
    BODIES,
    BODY,
    NOW,
    SYMMETRIC,
    TOKENS,
    code_of,
    delivery,
    genuine,
    scheme_of,
    signed_by,
    spec_of,
    with_header,
    with_headers,
)

ALL = sorted(PRESETS)
TIMED = sorted(name for name in ALL if spec_of(name).timestamp)

objects = st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=5), max_size=3)
forms = st.from_regex(
    r"([a-zA-Z0-9%+.]{1,4}=[a-zA-Z0-9%+.]{0,4}(&[a-z]{1,3}=[0-9]{0,3}){0,3})?", fullmatch=True
)


def bodies_of(name: str) -> st.SearchStrategy[bytes]:
    if name == "twilio":
        return forms.map(str.encode)
    if spec_of(name).timestamp.startswith("json:"):
        return objects.map(msgspec.json.encode)
    return st.binary(max_size=200)


# --- what is signed verifies ---


@pytest.mark.parametrize("name", sorted(SYMMETRIC))
@given(data=st.data())
@settings(max_examples=40)
def test_what_is_signed_verifies_and_soon_no_more(name: str, data: st.DataObject) -> None:
    body = data.draw(bodies_of(name))
    now = float(data.draw(st.integers(1_600_000_000, 2_000_000_000)))
    signed = genuine(name, body, now)
    scheme, spec = scheme_of(name), spec_of(name)
    assert scheme.verify(signed, now) == Verified(0)
    if spec.timestamp:
        for side in (-1, 1):
            late = now + side * (spec.tolerance + 2)
            assert code_of(scheme.verify(signed, late)) == "timestamp_too_far"
    if spec.covers_body and name != "twilio":
        changed = signed._replace(body=signed.body + b" ")
        assert isinstance(scheme.verify(changed, now), Refused)


@pytest.mark.parametrize("name", sorted(ASYMMETRIC))
@given(body=st.binary(max_size=200), now=st.integers(1_600_000_000, 2_000_000_000))
@settings(max_examples=20)
def test_what_a_sender_signs_with_its_own_key_verifies(name: str, body: bytes, now: int) -> None:
    signed = genuine(name, body, now)
    assert scheme_of(name).verify(signed, now) == Verified(0)
    assert isinstance(scheme_of(name).verify(signed._replace(body=body + b" "), now), Refused)


@pytest.mark.parametrize("name", sorted(ASYMMETRIC))
def test_with_a_public_key_nothing_can_be_signed(name: str) -> None:
    with pytest.raises(SettingsError, match="only the sender has the key"):
        scheme_of(name).sign(delivery(), NOW)


# --- secrets ---


def test_the_secret_that_matched_is_named() -> None:
    signed = scheme_of("github", "second").sign(delivery(), NOW)
    for secrets, position in ((["second"], 0), (["first", "second", "third"], 1)):
        verdict = scheme_of("github", *secrets).verify(signed, NOW)
        assert isinstance(verdict, Verified)
        assert verdict.secret == position
    assert code_of(scheme_of("github", "first", "third").verify(signed, NOW)) == (
        "signature_mismatch"
    )


@pytest.mark.parametrize(
    ("moment", "code"),
    [
        (NOW - 0.1, "signature_mismatch"),
        (NOW, "verified"),
        (NOW + 99.9, "verified"),
        (NOW + 100, "signature_mismatch"),
    ],
)
@pytest.mark.parametrize("name", ["github", "gitlab-token", "stripe"])
def test_a_secret_counts_within_its_window(name: str, moment: float, code: str) -> None:
    windowed = Secret("old", "OLD", NOW, NOW + 100)
    signed = scheme_of(name, "old").sign(delivery(), moment)
    assert code_of(scheme_of(name, "new", windowed).verify(signed, moment)) == code


@pytest.mark.parametrize(
    ("moment", "text"), [(NOW - 1, "old"), (NOW, "new"), (NOW + 99, "new"), (NOW + 100, "last")]
)
def test_it_signs_with_the_first_secret_that_counts(moment: float, text: str) -> None:
    secrets = [Secret("new", starts=NOW, ends=NOW + 100), Secret("old", ends=NOW), Secret("last")]
    signed = scheme_of("github", *secrets).sign(delivery(), moment)
    assert scheme_of("github", text).verify(signed, moment) == Verified(0)


def test_a_secret_does_not_show_itself() -> None:
    assert repr(Secret("hush", "OLD")) == "Secret(OLD)"
    assert "hush" not in f"{Secret('hush')!r}{Secret('hush', 'X')}"


# --- lists of signatures ---


@pytest.mark.parametrize(
    ("name", "before", "after"),
    [
        ("svix", "v1,AAAA", ""),
        ("svix", "", "v1,AAAA v2,BBBB"),
        ("svix", "v1a,AAAA nonsense v1 ,", "\xff, v1,"),
        ("stripe", "v1=00", "v1=,v0=00,=,v1"),
        ("paddle", "h1=00", "h1=\xff"),
        ("sanity", "", "v1=AAAA"),
        ("ghost", "sha256=00", ""),
    ],
)
def test_of_several_signatures_any_may_match_and_odd_items_are_skipped(
    name: str, before: str, after: str
) -> None:
    signed, spec = genuine(name), spec_of(name)
    header, split = spec.signature.partition(":")[2], spec.split[0]
    value = split.join(part for part in (before, signed.headers[header], after) if part)
    assert scheme_of(name).verify(with_header(signed, header, value), NOW) == Verified(0)


def test_only_so_many_signatures_are_looked_at() -> None:
    signed = genuine("svix")
    value = signed.headers["svix-signature"]
    for more, code in ((MAX_SIGNATURES - 1, "verified"), (MAX_SIGNATURES, "signature_mismatch")):
        given_ = with_headers(signed, svix_signature=" ".join(["v1,AAAA"] * more + [value]))
        assert code_of(scheme_of("svix").verify(given_, NOW)) == code


@pytest.mark.parametrize("name", ["stripe", "paddle", "ghost", "sanity", "calendly"])
def test_a_second_time_in_the_list_is_refused(name: str) -> None:
    signed, spec = genuine(name), spec_of(name)
    header = spec.signature.partition(":")[2]
    item = f"{spec.timestamp.partition(':')[2]}{spec.pair}"
    for value in (
        f"{signed.headers[header]}{spec.split[0]}{item}{int(NOW)}",
        f"{item}{int(NOW)}{spec.split[0]}{signed.headers[header]}",
        re.sub(rf"(^|[,;]){item}[0-9]+", "", signed.headers[header]),
    ):
        verdict = scheme_of(name).verify(with_header(signed, header, value), NOW)
        assert code_of(verdict) == "signature_malformed", value


def test_openai_sends_bare_signatures_and_secrets_that_are_text() -> None:
    scheme = scheme_of("openai", "a secret as text")
    signed = scheme.sign(delivery(), NOW)
    bare = with_headers(signed, webhook_signature=signed.headers["webhook-signature"][3:])
    assert scheme.verify(bare, NOW) == Verified(0)
    strict = scheme_of("standard-webhooks")
    signed = strict.sign(delivery(), NOW)
    bare = with_headers(signed, webhook_signature=signed.headers["webhook-signature"][3:])
    assert code_of(strict.verify(bare, NOW)) == "signature_malformed"


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


# --- explained ---


def explained(name: str, signed: Signed, *secrets: str | Secret, now: float = NOW) -> list[str]:
    lines: list[str] = []
    verdict = scheme_of(name, *secrets).explain(signed, now, lines.append)
    assert verdict == scheme_of(name, *secrets).verify(signed, now)
    return [*lines, str(verdict)]


def test_each_step_is_shown() -> None:
    signed = genuine("svix")
    lines = explained(
        "svix", signed, Secret("whsec_b3RoZXI=", "OLD"), SYMMETRIC["svix"], now=NOW + 42
    )
    content = f"{signed.headers['svix-id']}.{int(NOW)}.".encode() + BODY
    assert lines[:-1] == [
        "svix-signature: 1 signature(s) to compare with",
        f"signed time: {int(NOW)} (Unix seconds), 42 s old; 300 s are tolerated",
        f"signed content, {{id}}.{{timestamp}}.{{body}}: {len(content)} bytes, {content!r}",
        "secret 1 of 2 does not match OLD",
        "secret 2 of 2 matches",
    ]


def test_a_secret_outside_its_window_is_reported_as_such() -> None:
    lines = explained(
        "github", genuine("github"), Secret("a", "OLD", ends=NOW), SYMMETRIC["github"]
    )
    assert "secret 1 of 2 is not valid now OLD" in lines


def test_a_long_content_is_shown_by_its_beginning_and_its_end() -> None:
    lines = explained("github", genuine("github", b"begins" + b"x" * 5000 + b"ends"))
    (line,) = [line for line in lines if line.startswith("signed content")]
    assert "5010 bytes" in line
    assert "begins" in line
    assert line.endswith("ends'")
    assert len(line) < 200


@pytest.mark.parametrize("name", TIMED)
def test_the_error_of_the_clock_is_shown(name: str) -> None:
    signed, tolerance = genuine(name), spec_of(name).tolerance
    lines = explained(name, signed, now=NOW + tolerance + 7)
    assert any(f"{tolerance + 7:.0f} s old" in line for line in lines[:-1])
    assert "timestamp_too_far" in lines[-1]
    ahead = explained(name, signed, now=NOW - tolerance - 7)
    assert any(f"{tolerance + 7:.0f} s ahead" in line for line in ahead[:-1])


@pytest.mark.parametrize("name", sorted(SYMMETRIC))
def test_no_secret_is_shown(name: str) -> None:
    secret = SYMMETRIC[name]
    signed = genuine(name)
    header = spec_of(name).signature.partition(":")[2]
    tampered = [signed, signed._replace(body=b"{}"), delivery(), delivery(b"", {header: secret})]
    tampered += [with_header(signed, header, f"Bearer {secret}"), with_header(signed, header, "x")]
    text = "\n".join(
        line
        for one in tampered
        for secrets in ((secret,), ("c29tZWJvZHkgZWxzZQ==", secret), (secret, "Y2hhbmdlZA=="))
        for line in explained(name, one, *secrets)
    )
    bare = secret.removeprefix("whsec_")
    decoded = base64.b64decode(bare[: len(bare) // 4 * 4], altchars=b"-_")
    for form in (secret, secret.removeprefix("whsec_"), repr(decoded)[2:-1], decoded.hex()):
        assert form not in text
        assert base64.b64encode(form.encode()).decode()[:-4] not in text
        assert form.encode().hex() not in text


# --- whatever comes ---


def as_aiohttp_shows(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")


raw_text = st.binary(max_size=40).map(as_aiohttp_shows)
pieces = st.sampled_from(
    [
        *("v1", "v1a", "v0", "t", "ts", "h1", "sha256", "sha1", "=", ",", ";", " ", ":", ".", "\t"),
        *(str(int(NOW)), str(int(NOW * 1000)), "2026-05-22T14:42:31Z", "AAAA", "00" * 32, "A" * 43),
        *("A" * 43 + "=", "Bearer ", "sha256=", "v0=", "v1,", "\udcff", "x-contentful-timestamp"),
        *("x-contentful-signed-headers", "application/x-www-form-urlencoded", "application/json"),
    ]
)
values = st.one_of(raw_text, st.lists(pieces, max_size=8).map("".join))
json_bodies = st.fixed_dictionaries(
    {},
    optional={
        "signature": st.fixed_dictionaries(
            {},
            optional={
                "timestamp": st.one_of(st.just(str(int(NOW))), st.integers(), st.text()),
                "token": st.one_of(st.text(), st.none()),
                "signature": st.one_of(st.just("00" * 32), st.text(), st.lists(st.none())),
            },
        ),
        "webhookTimestamp": st.one_of(st.just(int(NOW * 1000)), st.integers(), st.text()),
        "id": st.text(),
    },
).map(msgspec.json.encode)
any_bodies = st.one_of(
    st.binary(max_size=60), json_bodies, st.sampled_from([BODY, *BODIES.values()])
)


def names_of(spec: SignatureSpec) -> list[str]:
    """The headers that a spec reads."""
    texts = [spec.signature, spec.timestamp, spec.content, *spec.id, *spec.type]
    found = re.findall(r"header:([A-Za-z0-9-]+)", " ".join(texts))
    return sorted({*found, "Content-Type", "x-contentful-signed-headers", "X-Other"})


@pytest.mark.parametrize("name", ALL)
@given(data=st.data())
@settings(max_examples=40)
def test_whatever_comes_ends_in_a_refusal_and_no_exception(name: str, data: st.DataObject) -> None:
    names = st.one_of(st.sampled_from(names_of(spec_of(name))), st.text("abc-X", min_size=1))
    headers = CIMultiDict(data.draw(st.lists(st.tuples(names, values), max_size=8)))
    target = "/" + data.draw(st.one_of(raw_text, st.just("hook?bodySHA256=" + "0" * 64)))
    given_ = Signed(
        headers,
        data.draw(any_bodies),
        target,
        data.draw(st.sampled_from(["POST", "PUT", "X"])),
        data.draw(st.sampled_from(["", "https://app.example/hook", "https://app.example/?a=1"])),
    )
    lines: list[str] = []
    for verdict in (
        scheme_of(name).verify(given_, NOW),
        scheme_of(name).explain(given_, NOW, lines.append),
    ):
        assert isinstance(verdict, Refused)
        assert re.fullmatch("[a-z_]+", verdict.code)
        assert verdict.detail
        assert SYMMETRIC.get(name, "\0") not in verdict.detail


@pytest.mark.parametrize("name", ALL)
@given(data=st.data())
@settings(max_examples=40)
def test_a_genuine_delivery_with_a_header_of_anything_ends_in_a_verdict(
    name: str, data: st.DataObject
) -> None:
    signed = genuine(name)
    header = data.draw(st.sampled_from(names_of(spec_of(name))))
    value = data.draw(values)
    verdict = scheme_of(name).verify(with_header(signed, header, value), NOW)
    is_read = header in spec_of(name).signature + spec_of(name).timestamp
    if is_read and value != signed.headers.get(header):
        assert isinstance(verdict, Refused)


@pytest.mark.parametrize("name", sorted(SYMMETRIC.keys() - TOKENS))
@given(body=any_bodies, now=st.just(NOW))
@settings(max_examples=30)
def test_a_genuine_signature_verifies_no_other_body(name: str, body: bytes, now: float) -> None:
    signed = genuine(name)
    if spec_of(name).covers_body and body != signed.body:
        assert isinstance(scheme_of(name).verify(signed._replace(body=body), now), Refused)


@given(content=st.binary(max_size=50), words=st.sampled_from(["ed25519", "ecdsa-p256"]))
def test_any_bytes_for_a_public_keys_signature_are_refused(content: bytes, words: Any) -> None:
    name = "discord" if words == "ed25519" else "sendgrid"
    signed = signed_by(spec_of(name), lambda _: content, delivery())
    assert isinstance(scheme_of(name).verify(signed, NOW), Refused)
