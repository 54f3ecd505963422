"""Redaction: which values are replaced by their hash, and that the rest stays as it is."""

from __future__ import annotations

import hashlib

import pytest

from hookmill.emulator.models import Template
from hookmill.emulator.redaction import body_shown, headers_shown

HEADERS = (("Content-Type", "text/plain"), ("X-Key", "shh"), ("x-key", "ä"))


def hashed(value: str) -> str:
    return f"REDACTED:{hashlib.sha256(value.encode()).hexdigest()}"


@pytest.mark.parametrize(
    ("fields", "hidden"),
    [
        ((), set()),
        (("body",), set()),
        (("header[X-KEY]",), {"shh", "ä"}),
        (("Header[content-type]",), {"text/plain"}),
        (("header[X-Other]",), set()),
        (("header",), {"text/plain", "shh", "ä"}),
    ],
)
def test_the_values_of_the_named_headers_are_hashed(
    fields: tuple[str, ...], hidden: set[str]
) -> None:
    assert headers_shown(HEADERS, fields) == tuple(
        (name, hashed(value) if value in hidden else value) for name, value in HEADERS
    )


def test_a_body_is_hashed_only_if_it_is_named() -> None:
    assert body_shown(Template(body=b"shh", redact=("header",))) == b"shh"
    assert body_shown(Template(body=b"shh", redact=("body",))).decode() == hashed("shh")
