"""What only code can take from a request: the contents of HubSpot and Contentful."""

from __future__ import annotations

import base64
import hmac
from typing import Any

import pytest

from hookmill.signatures import Signed
from tests.signatures.senders import (
    NOW,
    SYMMETRIC,
    code_of,
    delivery,
    scheme_of,
    with_header,
    with_headers,
)

# --- HubSpot ---


def hubspot(given_url: str, signed_url: str, **changes: Any) -> str:
    body, time = b'[{"eventId":1}]', str(int(NOW * 1000))
    content = f"POST{signed_url}".encode() + body + time.encode()
    digest = hmac.digest(SYMMETRIC["hubspot"].encode(), content, "sha256")
    headers = {
        "X-HubSpot-Signature-v3": base64.b64encode(digest).decode(),
        "X-HubSpot-Request-Timestamp": time,
    }
    given = delivery(body, headers, url=given_url)._replace(**changes)
    return code_of(scheme_of("hubspot").verify(given, NOW))


@pytest.mark.parametrize(
    ("url", "signed"),
    [
        ("https://app.example/hook", "https://app.example/hook"),
        ("https://app.example/h?a=%3A%2F%3f%40", "https://app.example/h?a=:/?@"),
        ("https://app.example/h?a=%21%24%27%28%29%2A%2C%3B", "https://app.example/h?a=!$'()*,;"),
        ("https://app.example/h?a=%20%26%3D%2B%25", "https://app.example/h?a=%20%26%3D%2B%25"),
        ("https://app.example/h?a=%253A", "https://app.example/h?a=%253A"),
    ],
)
def test_hubspot_signs_the_url_with_some_of_its_escapes_undone(url: str, signed: str) -> None:
    assert hubspot(url, signed) == "verified"


@pytest.mark.parametrize(
    "changes",
    [
        {"method": "PUT"},
        {"method": "post"},
        {"url": "https://app.example/hooks"},
        {"url": "https://app.example/hoo"},
        {"body": b'[{"eventId":2}]'},
        {"body": b"k" + b'[{"eventId":1}]', "url": "https://app.example/hoo"},
    ],
    ids=str,
)
def test_hubspots_method_url_and_body_are_signed(changes: dict[str, Any]) -> None:
    url = "https://app.example/hook"
    moved = hubspot(url, url, **changes)
    # The URL is the configured one: to move its end into the body is to be registered elsewhere.
    expected = "verified" if "url" in changes and "body" in changes else "signature_mismatch"
    assert moved == expected


# --- Contentful ---

CONTENTFUL = {"X-Contentful-Topic": "Entry.publish", "X-Contentful-Name": " hello "}


def contentful(target: str = "/hooks?q=1&w=a%20b", headers: dict[str, str] | None = None) -> Signed:
    plain = delivery(headers=CONTENTFUL if headers is None else headers, target=target)
    return scheme_of("contentful").sign(plain, NOW)


def judged(signed: Signed) -> str:
    return code_of(scheme_of("contentful").verify(signed, NOW))


@pytest.mark.parametrize(
    "target", ["/", "/hooks", "/hooks?q=1", "/h%20ks?q=%20", "/h?", "/h?a?b", "/\u00fc?\u00fc=1"]
)
def test_what_is_signed_as_contentful_does_verifies(target: str) -> None:
    signed = contentful(target)
    assert judged(signed) == "verified"
    assert judged(signed._replace(target=target + "x")) == "signature_mismatch"
    assert judged(signed._replace(method="PUT")) == "signature_mismatch"
    assert judged(signed._replace(body=signed.body + b" ")) == "signature_mismatch"


def test_contentfuls_listed_headers_are_signed_and_others_are_not() -> None:
    signed = contentful()
    assert judged(with_headers(signed, X_Contentful_Topic="Entry.delete")) == "signature_mismatch"
    assert judged(with_headers(signed, X_Contentful_Name="hello")) == "verified"  # it is trimmed
    assert judged(with_headers(signed, X_Other="anything")) == "verified"
    assert judged(with_header(signed, "X-Contentful-Topic")) == "header_missing"


@pytest.mark.parametrize(
    ("listed", "code"),
    [
        ("", "timestamp_unsigned"),
        ("x-contentful-signed-headers", "timestamp_unsigned"),
        ("x-contentful-timestamp", "timestamp_unsigned"),
        ("x-contentful-timestamp,x-contentful-signed-headers,host", "header_missing"),
        ("x-contentful-timestamp,x-contentful-signed-headers,", "header_malformed"),
        ("x-contentful-timestamp,x-contentful-signed-headers,\udcff", "header_malformed"),
        ("x-contentful-timestamp,x-contentful-signed-headers", "signature_mismatch"),
    ],
)
def test_contentfuls_time_must_be_listed_and_what_is_listed_be_there(
    listed: str, code: str
) -> None:
    signed = with_headers(contentful(), x_contentful_signed_headers=listed)
    assert judged(signed) == code


def test_contentfuls_time_cannot_be_made_fresh() -> None:
    later = NOW + 31
    assert code_of(scheme_of("contentful").verify(contentful(), later)) == "timestamp_too_far"
    fresh = with_headers(contentful(), x_contentful_timestamp=str(int(later * 1000)))
    assert code_of(scheme_of("contentful").verify(fresh, later)) == "signature_mismatch"
