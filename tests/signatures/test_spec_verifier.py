"""The one verifier: secrets and their windows, lists of signatures, and what it explains."""

from __future__ import annotations

import base64
import re

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hookmill.errors import SettingsError
from hookmill.signatures import Refused, Signed, Verified
from hookmill.signatures.content import MAX_ITEMS, MAX_LIST, MAX_SIGNATURES
from hookmill.signatures.scheme import Secret
from hookmill.signatures.spec import SignatureSpec
from hookmill.signatures.spec_verifier import SpecVerifier
from tests.signatures.senders import (
    ALL,
    ASYMMETRIC,
    BODY,
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


def test_a_list_of_signatures_has_only_so_many_items() -> None:
    signed = genuine("svix")
    value = signed.headers["svix-signature"]
    for more, code in ((MAX_ITEMS - 1, "verified"), (MAX_ITEMS, "too_many_items")):
        given_ = with_headers(signed, svix_signature=" ".join([value] + ["v0,AAAA"] * more))
        assert code_of(scheme_of("svix").verify(given_, NOW)) == code


@pytest.mark.parametrize("more", [0, 1])
def test_a_list_of_signatures_in_the_body_is_no_longer_than_a_header_may_be(more: int) -> None:
    spec = SignatureSpec(
        signature="json:sig", split=",", pair="=", item="v1", content="{json:a}", unsigned_body=True
    )
    sig = "v1=" + "0" * (MAX_LIST - 3 + more)
    body = msgspec.json.encode({"sig": sig, "a": "x"})
    verdict = SpecVerifier(spec, ["a_secret_that_is_long"]).verify(delivery(body), NOW)
    assert code_of(verdict) == ("value_too_long" if more else "signature_mismatch")


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
