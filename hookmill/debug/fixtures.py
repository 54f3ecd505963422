"""Writes what a sender puts into a delivery besides its signature: headers, and a fitting body.

No I/O. A sender's signature spec says where ID and type stand. What no spec says is in the tables
of this module.
"""

from __future__ import annotations

import base64
import re
import time
from collections.abc import Iterable
from typing import Any, NamedTuple
from urllib.parse import urlencode

import msgspec
from multidict import CIMultiDict

from hookmill.catalog.qstash import AttemptFailed, DeliveryFailed, DeliverySucceeded
from hookmill.signatures.spec import SignatureSpec, as_template, parts

PLAIN_TYPE = "hookmill.test"
"""The event type of a delivery, unless another one is asked for."""

_OTHER_HEADERS: dict[str, dict[str, str]] = {
    "github": {"User-Agent": "GitHub-Hookshot/0000000"},
    "gitlab": {"X-Gitlab-Instance": "https://gitlab.example"},
    "gitlab-token": {"X-Gitlab-Instance": "https://gitlab.example"},
    "woocommerce": {"X-WC-Webhook-Delivery-ID": "1", "X-WC-Webhook-Source": "https://shop.example"},
    "shopify": {"X-Shopify-Shop-Domain": "shop.example"},
    "twitch": {"Twitch-Eventsub-Message-Type": "notification"},
    "contentful": {"Content-Type": "application/vnd.contentful.management.v1+json"},
}
"""Headers that a sender is known for, besides its signature, the ID and the type."""

_BODIES: dict[str, Any] = {
    "slack": {"type": "event_callback"},
    "meta": {"object": "page"},
    "dropbox": {"list_folder": {"accounts": ["dbid:1"]}},
}
"""What a sender's bodies always hold, besides the ID and the type."""

_FORM = "application/x-www-form-urlencoded"


class Draft(NamedTuple):
    """A delivery before it is signed."""

    headers: CIMultiDict[str]
    body: bytes


def draft(
    preset: str, spec: SignatureSpec | None, body: bytes | None, message_id: str, event_type: str
) -> Draft:
    """Write a delivery as the sender would, without its signature.

    A given `body` stays as it is, so that ID and type are in the headers only. Raises `ValueError`
    for a type that this sender does not have.
    """
    if preset == "qstash-callbacks":
        return _draft_of_callback(body, message_id, event_type)
    event_type = event_type or PLAIN_TYPE
    if spec is None or preset == "qstash":
        return _draft_of_qstash(body, message_id, event_type)
    if preset == "marble":
        return _draft_of_marble(body, message_id, event_type)
    values = _values(spec.id, message_id) | _values(spec.type, event_type)
    headers = CIMultiDict[str]()
    is_form = not any(_is_json(place) for place in values) and any(map(_is_form, values))
    if body is None:
        body = _form_of(values) if is_form else _json_of(_BODIES.get(preset, {}), values)
    is_form = is_form and _fields_of(body) is None
    headers["Content-Type"] = _FORM if is_form else content_type(body)
    headers["User-Agent"] = "hookmill-send"
    headers.update(_OTHER_HEADERS.get(preset, {}))
    for place, value in values.items():
        if place.startswith("header:"):
            headers[place.partition(":")[2]] = value
    return Draft(headers, body)


def _draft_of_qstash(body: bytes | None, message_id: str, event_type: str) -> Draft:
    if body is None:
        body = msgspec.json.encode({"type": event_type, "hello": "world"})
    return Draft(CIMultiDict(qstash_headers(body, message_id)), body)


def _draft_of_callback(body: bytes | None, message_id: str, event_type: str) -> Draft:
    if body is None:
        body = _callback(message_id, event_type or DeliveryFailed.tag)
    return Draft(CIMultiDict(qstash_headers(body, message_id)), body)


_OUTCOMES: dict[str, dict[str, Any]] = {
    DeliverySucceeded.tag: {"status": 200, "retried": 0},
    AttemptFailed.tag: {"status": 500, "retried": 0},
    DeliveryFailed.tag: {"status": 500, "retried": 3},
}
"""Fields of a callback, by its event type."""


def _callback(message_id: str, event_type: str) -> bytes:
    """Write the callback that QStash sends about a message that it published."""
    if event_type not in _OUTCOMES:
        known = ", ".join(_OUTCOMES)
        raise ValueError(f"QStash has no callback of type {event_type!r}; it has {known}")
    said = _OUTCOMES[event_type]
    published = msgspec.json.encode({"type": PLAIN_TYPE, "hello": "world"})
    now = str(int(time.time() * 1000))
    callback = said | {
        "header": {"Content-Type": ["text/plain"]},
        "body": base64.b64encode(b"OK" if said["status"] == 200 else b"no").decode(),
        "maxRetries": 3,
        "sourceMessageId": f"{message_id}_source",
        "url": "https://subscriber.example/hook",
        "method": "POST",
        "sourceHeader": {"Content-Type": ["application/json"]},
        "sourceBody": base64.b64encode(published).decode(),
        "notBefore": now,
        "createdAt": now,
        "callerIP": "192.0.2.1",
    }
    if event_type == DeliveryFailed.tag:
        callback["dlqId"] = f"{now}-0"
    return msgspec.json.encode(callback)


def _draft_of_marble(body: bytes | None, message_id: str, event_type: str) -> Draft:
    if body is None:
        body = msgspec.json.encode({"id": message_id, "type": event_type, "data": {}})
    return Draft(CIMultiDict(marble_headers(body, message_id)), body)


def qstash_headers(body: bytes, message_id: str) -> dict[str, str]:
    """Return the headers that QStash sends besides its signature."""
    return {
        "Content-Type": content_type(body),
        "User-Agent": "Upstash-QStash",
        "Upstash-Message-Id": message_id,
        "Upstash-Retried": "0",
        "Upstash-Region": "EU-CENTRAL-1",
    }


def marble_headers(body: bytes, message_id: str) -> dict[str, str]:
    """Return the headers that Marble sends besides its signature. Their values are in the body too.

    Bodies of its older generation came through QStash, with QStash's headers.
    """
    fields = _fields_of(body) or {}
    if "event" in fields:
        return qstash_headers(body, message_id)
    return {
        "Content-Type": "application/json",
        "User-Agent": "Marble-Webhooks/1.0",
        "x-marble-event": str(fields.get("type", "")),
        "x-marble-event-id": str(fields.get("id", message_id)),
        "x-marble-delivery-id": f"whd_{message_id}",
        "x-marble-timestamp": str(int(time.time())),
    }


def content_type(body: bytes) -> str:
    """Return the content type of a body: JSON or plain text."""
    is_json = _fields_of(body) is not None or body.lstrip().startswith(b"[{")
    return "application/json" if is_json else "text/plain"


# --- where ID and type go ---


def _values(templates: Iterable[str], text: str) -> dict[str, str]:
    """Return what to write at which place, so that the templates give the text.

    The first template that can give the text is used. Where none can, the first field of the first
    template holds the text.
    """
    usable = [one for one in templates if one != "body" and "item:" not in one]
    for template in usable:
        if (values := _values_for(template, text)) is not None:
            return values
    if not usable:
        return {}
    first, *others = [field for _, field in parts(as_template(usable[0])) if field]
    return {first: text} | dict.fromkeys(others, "1")


def _values_for(template: str, text: str) -> dict[str, str] | None:
    """Return the values of a template's fields that give the text, or None if none do."""
    pieces = list(parts(as_template(template)))
    pattern = "".join(re.escape(before) + ("(.+?)" if field else "") for before, field in pieces)
    match = re.fullmatch(pattern, text, re.DOTALL)
    fields = [field for _, field in pieces if field]
    return dict(zip(fields, match.groups(), strict=True)) if match else None


def _is_json(place: str) -> bool:
    return place.startswith("json:")


def _is_form(place: str) -> bool:
    return place.startswith("form:")


def _form_of(values: dict[str, str]) -> bytes:
    fields = [(place.partition(":")[2], text) for place, text in values.items() if _is_form(place)]
    return urlencode([("AccountSid", "AC0"), *fields]).encode()


def _json_of(base: Any, values: dict[str, str]) -> bytes:
    whole = base
    for place, text in values.items():
        if _is_json(place):
            whole = _with_text(whole, place.partition(":")[2].split("."), text)
    return msgspec.json.encode(whole)


def _with_text(value: Any, path: list[str], text: str) -> Any:
    """Return a JSON value with the text at the path. A number in the path leads into a list."""
    if not path:
        return text
    step, *rest = path
    if step.isdecimal() and not (isinstance(value, dict) and value):
        items = list(value) if isinstance(value, list) else []
        items += [{}] * (int(step) + 1 - len(items))
        items[int(step)] = _with_text(items[int(step)], rest, text)
        return items
    fields = value if isinstance(value, dict) else {}
    return {**fields, step: _with_text(fields.get(step, {}), rest, text)}


def _fields_of(body: bytes) -> dict[str, Any] | None:
    try:
        return msgspec.json.decode(body, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
