"""What Twilio signs: the URL with the form's fields, or the URL that has the body's hash."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from multidict import CIMultiDict

from hookmill.signatures import Signed, Verified
from hookmill.signatures.content_rules import MAX_FORM
from hookmill.signatures.forms import MAX_FIELDS
from tests.signatures.senders import NOW, SYMMETRIC, code_of, delivery, genuine, scheme_of

# --- Twilio ---

HOOK = "https://app.example/hook?foo=1"
FORM = b"CallSid=CA1&Digits=1234&From=%2B14158675309"
SIGNED_FORM = "CallSidCA1Digits1234From+14158675309"
JSON = b'{"property":"value"}'
HASH = hashlib.sha256(JSON).hexdigest()
AS_FORM = "application/x-www-form-urlencoded"


def sha1(content: str | bytes) -> str:
    raw = content.encode() if isinstance(content, str) else content
    digest = hmac.digest(SYMMETRIC["twilio"].encode(), raw, "sha1")
    return base64.b64encode(digest).decode()


def twilio(
    signed: str | bytes,
    body: bytes = FORM,
    *,
    url: str = HOOK,
    target: str | None = None,
    kind: str | None = AS_FORM,
) -> str:
    """The verdict on a delivery whose signature is that of `signed`."""
    headers = CIMultiDict({"X-Twilio-Signature": sha1(signed)})
    if kind is not None:
        headers["Content-Type"] = kind
    split = urlsplit(url)
    own = split.path + (f"?{split.query}" if split.query else "")
    given = Signed(headers, body, own if target is None else target, "POST", url)
    return code_of(scheme_of("twilio").verify(given, NOW))


@pytest.mark.parametrize(
    ("url", "signed"),
    [
        (HOOK, HOOK),
        (HOOK, "https://app.example:443/hook?foo=1"),
        ("https://app.example:443/hook?foo=1", HOOK),
        ("http://app.example/hook", "http://app.example:80/hook"),
        ("https://app.example:8443/hook", "https://app.example:8443/hook"),
        ("https://app.example:8443/hook", "https://app.example/hook"),
        ("https://me:pass@app.example/hook", "https://me:pass@app.example:443/hook"),
        ("https://[::1]:8443/hook", "https://[::1]/hook"),
    ],
)
def test_twilio_signs_with_and_without_the_port(url: str, signed: str) -> None:
    assert twilio(signed + SIGNED_FORM, url=url) == "verified"


@pytest.mark.parametrize(
    "signed",
    [
        "https://app.example:80/hook?foo=1",
        "https://app.example:8443/hook?foo=1",
        "http://app.example/hook?foo=1",
        "https://app.example/hook?foo=2",
        "https://app.example/hook",
        "https://other.example/hook?foo=1",
        "https://APP.example/hook?foo=1",
    ],
)
def test_twilios_signature_for_another_url_is_refused(signed: str) -> None:
    assert twilio(signed + SIGNED_FORM) == "signature_mismatch"


@pytest.mark.parametrize(
    ("body", "signed"),
    [
        (FORM, SIGNED_FORM),
        (b"From=%2B14158675309&Digits=1234&CallSid=CA1", SIGNED_FORM),  # sorted
        (b"a=2&a=1", "a1a2"),
        (b"a=1&a=1", "a1"),  # duplicates are removed
        (b"B=1&a=2", "B1a2"),
        (b"a=", "a"),
        (b"a=b+c%26%3D", "ab c&="),
        (b"a=%C3%BC", "a\u00fc"),
        (b"", ""),
    ],
)
def test_twilio_signs_the_forms_fields_in_their_order_and_once(body: bytes, signed: str) -> None:
    assert twilio(HOOK + signed, body) == "verified"


def signed_form(body: bytes) -> bytes | None:
    """What Twilio signs of a form as the standard parser reads it; None: it is no form."""
    if not re.fullmatch(rb"([^&=]+=[^&=]*(&[^&=]+=[^&=]*)*)?", body):
        return None
    text = body.decode("utf-8", "surrogateescape")
    fields = {
        tuple(part.encode("utf-8", "surrogateescape") for part in field)
        for field in parse_qsl(text, keep_blank_values=True, errors="surrogateescape")
    }
    signed = b"".join(name + value for name, value in sorted(fields))
    return None if signed[:1] in {b"?", b"&"} else signed


bits = st.sampled_from(
    [
        *(b"a", b"b", b"B", b"1", b" ", b"+", b"%", b"%2B", b"%2b", b"%25", b"2B", b"%26", b"%3D"),
        *(
            b"%41",
            b"%ff",
            b"%C3%BC",
            b"\xc3\xbc",
            b"\xbc",
            b"\xf0\x9f\x98\x80",
            b"%EF%BF%BD",
            b"%00",
        ),
        *(b"\x00", b"\n", b"?", b"%3F", b"%zz", b"%4", b";"),
    ]
)
words = st.lists(bits, max_size=3).map(b"".join)
fields = st.tuples(st.lists(bits, min_size=1, max_size=2).map(b"".join), words).map(b"=".join)
forms = st.one_of(
    st.lists(fields, max_size=5).map(b"&".join),
    st.lists(bits | st.sampled_from([b"=", b"&"]), max_size=12).map(b"".join),
)


@given(body=forms)
@settings(max_examples=500)
def test_twilio_signs_the_fields_that_the_standard_parser_finds(body: bytes) -> None:
    signed = signed_form(body)
    if signed is None:
        assert twilio(HOOK, body) == "body_malformed"
    else:
        assert twilio(HOOK.encode() + signed, body) == "verified"


@given(texts=st.dictionaries(st.text(min_size=1), st.text()))
def test_twilio_signs_texts_in_the_order_of_their_characters(texts: dict[str, str]) -> None:
    signed = "".join(name + texts[name] for name in sorted(texts))
    if not signed.startswith(("?", "&")):
        assert twilio(HOOK + signed, urlencode(texts).encode()) == "verified"


@pytest.mark.parametrize(
    ("count", "code"), [(MAX_FIELDS, "verified"), (MAX_FIELDS + 1, "too_many_fields")]
)
def test_twilios_form_has_only_so_many_fields(count: int, code: str) -> None:
    assert twilio(HOOK + "a1", b"&".join([b"a=1"] * count)) == code


@pytest.mark.parametrize(
    ("size", "code"), [(MAX_FORM, "verified"), (MAX_FORM + 1, "value_too_long")]
)
def test_twilios_form_has_only_so_many_bytes(size: int, code: str) -> None:
    value = b"1" * (size - 2)
    assert twilio(HOOK.encode() + b"a" + value, b"a=" + value) == code


@pytest.mark.parametrize(
    ("body", "target"),
    [
        # A field moved into the query: the URL is the configured one.
        (b"Digits=1234&From=%2B14158675309", "/hook?foo=1CallSidCA1"),
        (b"Digits=1234&From=%2B14158675309", "/hook?foo=1&CallSid=CA1"),
        (b"", "/hook?foo=1CallSidCA1Digits1234From+14158675309"),
        (FORM + b"&x=", "/hook?foo="),
        (b"1CallSidCA1=&Digits=1234&From=%2B14158675309", "/hook?foo="),
        # A field more, less, or of another value.
        (FORM + b"&a=1", None),
        (FORM + b"&CallSid=CA2", None),
        (b"CallSid=CA1&Digits=1234", None),
        (FORM.replace(b"1234", b"1235"), None),
    ],
)
def test_twilios_fields_cannot_be_moved_or_changed(body: bytes, target: str | None) -> None:
    assert twilio(HOOK + SIGNED_FORM, body, target=target) == "signature_mismatch"


def test_twilios_form_may_come_with_another_query_for_the_url_is_the_configured_one() -> None:
    assert twilio(HOOK + SIGNED_FORM, target="/hook?anything=else") == "verified"


@pytest.mark.parametrize(
    "body",
    [
        b"CallSidCA1&Digits=1234&From=%2B14158675309",
        b"CallSid=CA1&&Digits=1234&From=%2B14158675309",
        b"=CallSidCA1&Digits=1234&From=%2B14158675309",
        b"CallSid==CA1&Digits=1234&From=%2B14158675309",
        FORM + b"&",
    ],
)
def test_a_body_that_is_no_form_of_names_and_values_is_refused(body: bytes) -> None:
    assert twilio(HOOK + SIGNED_FORM, body) == "body_malformed"


@pytest.mark.parametrize("body", [b"&", b"\xff", b"=", b"{}"])
def test_what_twilio_signed_for_an_empty_body_covers_no_other(body: bytes) -> None:
    assert twilio(HOOK, b"") == "verified"
    assert twilio(HOOK, body) == "body_malformed"


# --- Twilio: bodies that are no forms ---

MARK = f"bodySHA256={HASH}"
OTHER_HASH = hashlib.sha256(b"other").hexdigest()


@pytest.mark.parametrize(
    ("url", "target"),
    [
        (HOOK, f"/hook?foo=1&{MARK}"),
        (HOOK, f"/hook?{MARK}"),
        ("https://app.example/hook", f"/hook?{MARK}"),
        (f"https://app.example/hook?{MARK}", f"/hook?{MARK}"),
        (f"https://app.example/hook?{MARK}", "/hook"),
    ],
)
@pytest.mark.parametrize("kind", ["application/json", "text/plain; charset=utf-8", None])
def test_the_hash_in_the_url_covers_a_body_that_is_no_form(
    url: str, target: str, kind: str | None
) -> None:
    base, _, query = url.partition("?")
    signed = f"{base}?{query}&{MARK}" if query and MARK not in query else f"{base}?{MARK}"
    assert twilio(signed, JSON, url=url, target=target, kind=kind) == "verified"
    assert twilio(signed, JSON + b" ", url=url, target=target, kind=kind) == "body_mismatch"
    assert twilio(signed, b"", url=url, target=target, kind=kind) == "body_mismatch"


@pytest.mark.parametrize(
    ("target", "body", "code"),
    [
        (f"/hook?foo=1&bodySHA256={OTHER_HASH}", JSON, "body_mismatch"),
        (f"/hook?foo=1&bodySHA256={HASH.upper()}", JSON, "body_mismatch"),
        (f"/hook?foo=1&bodySHA256={OTHER_HASH}", b"other", "signature_mismatch"),
        (f"/hook?foo=1&bodysha256={HASH}", JSON, "body_unsigned"),
        ("/hook?foo=1&bodySHA256=", JSON, "body_unsigned"),
        ("/hook?foo=1", JSON, "body_unsigned"),
        ("/hook", JSON, "body_unsigned"),
        (f"/hook?foo=1&{MARK}&{MARK}", JSON, "body_unsigned"),
        (f"/hook?foo=1&{MARK}&bodySHA256={OTHER_HASH}", b"other", "body_unsigned"),
        (f"/hook?foo=1&{MARK}&more=1", JSON, "signature_mismatch"),
        (f"/hook?foo=2&{MARK}", JSON, "signature_mismatch"),
    ],
)
def test_a_body_that_the_url_does_not_tell_of_is_refused(
    target: str, body: bytes, code: str
) -> None:
    assert twilio(f"{HOOK}&{MARK}", body, target=target, kind="application/json") == code


@pytest.mark.parametrize(
    ("url", "body"),
    [
        # What was signed for a URL and no form must not pass as a form for a shorter URL.
        ("https://app.example/hook", f"{quote('?' + MARK)}=".encode()),
        ("https://app.example/hook", f"{quote('?bodySHA256=')}={HASH}".encode()),
        ("https://app.example/hook?a=1", f"{quote('&' + MARK)}=".encode()),
    ],
)
def test_a_signed_url_does_not_pass_as_a_form(url: str, body: bytes) -> None:
    signed = f"{url}{'&' if '?' in url else '?'}{MARK}"
    assert twilio(signed, JSON, url=url, target=f"/hook?{MARK}", kind="text/plain") == "verified"
    assert twilio(signed, body, url=url, target="/hook") == "body_malformed"


def test_a_url_that_tells_of_the_body_makes_every_body_count() -> None:
    url = f"https://app.example/hook?{MARK}"
    assert twilio(url, JSON, url=url) == "verified"
    for body in (b"", FORM):
        assert twilio(url, body, url=url) == "body_mismatch"


def test_a_form_does_not_pass_as_another_kind_of_body() -> None:
    for kind in ("application/json", "text/plain"):
        assert twilio(HOOK + SIGNED_FORM, kind=kind) == "body_unsigned"


@pytest.mark.parametrize("name", ["twilio", "hubspot", "square"])
def test_without_the_configured_url_nothing_verifies(name: str) -> None:
    verdict = scheme_of(name).verify(genuine(name)._replace(url=""), NOW)
    assert code_of(verdict) == "url_unknown"


@pytest.mark.parametrize("url", [HOOK, "https://app.example/hook"])
@pytest.mark.parametrize("kind", [AS_FORM, "application/json"])
def test_what_is_signed_as_twilio_does_verifies(url: str, kind: str) -> None:
    body = FORM if kind == AS_FORM else JSON
    own = url.removeprefix("https://app.example")
    plain = delivery(body, {"Content-Type": kind}, own, url)
    signed = scheme_of("twilio").sign(plain, NOW)
    assert scheme_of("twilio").verify(signed, NOW) == Verified(0)
    assert ("bodySHA256" in signed.target) == (kind != AS_FORM)
