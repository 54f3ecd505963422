"""Replaces redacted values by their hash, which can be compared but not read."""

from __future__ import annotations

import hashlib
from collections.abc import Collection

from hookmill.emulator.models import Headers, Template


def headers_shown(headers: Headers, fields: Collection[str]) -> Headers:
    """Return headers; values that `fields` (`header`, `header[NAME]`) name are hashed."""
    hidden = {field.lower() for field in fields}
    return tuple(
        (name, _hash(value.encode()))
        if hidden & {"header", f"header[{name.lower()}]"}
        else (name, value)
        for name, value in headers
    )


def body_shown(template: Template) -> bytes:
    """Return a message's body, or its hash if it is redacted."""
    return _hash(template.body).encode() if "body" in template.redact else template.body


def _hash(value: bytes) -> str:
    return f"REDACTED:{hashlib.sha256(value).hexdigest()}"
