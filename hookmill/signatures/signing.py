"""Signs a delivery as its sender would, to try one's own endpoint."""

from __future__ import annotations

import hmac
import uuid
from typing import Any

import msgspec
from multidict import CIMultiDict

from hookmill.errors import SettingsError
from hookmill.signatures import times
from hookmill.signatures.content import FoundSignatures, SpecReader
from hookmill.signatures.keys import encode, key_of
from hookmill.signatures.scheme import Refused, Secret, Signed


def sign(reader: SpecReader, secret: Secret, delivery: Signed, now: float) -> Signed:
    """Return the delivery with time, ID and signature at the places of the spec.

    Raises `SettingsError` if only the sender has the key to sign with.
    """
    spec = reader.spec
    if spec.algorithm in {"ed25519", "ecdsa-p256"}:
        raise SettingsError([f"{spec.algorithm}: only the sender has the key to sign with"])
    key = key_of(spec, secret.text)
    if spec.algorithm == "token":
        return put(delivery, spec.signature, spec.prefix + key.decode())
    items: dict[bytes, list[bytes]] = {}
    time = times.write(now, spec.unit) if spec.timestamp else ""
    kind, _, name = spec.timestamp.partition(":")
    if kind == "item":
        items[name.encode()] = [time.encode()]
    elif time:
        delivery = put(delivery, spec.timestamp, time)
    delivery = _with_required_values(reader, delivery)
    if reader.rule is not None:
        delivery = reader.rule.prepare(delivery)
    contents = reader.contents(delivery, FoundSignatures([], items), time.encode())
    if isinstance(contents, Refused):
        raise SettingsError([f"the delivery cannot be signed: {contents.detail}"])
    digest = hmac.digest(key, contents[0], spec.algorithm.removeprefix("hmac-"))
    signature = encode(digest, spec.encoding).decode()
    if spec.pair:
        items[spec.item.encode()] = [signature.encode()]
        signature = spec.split[:1].join(
            f"{name.decode()}{spec.pair}{value.decode()}" for name, (value,) in items.items()
        )
    return put(delivery, spec.signature, spec.prefix + signature)


def _with_required_values(reader: SpecReader, delivery: Signed) -> Signed:
    """Add the values that a spec needs and the delivery lacks: a signed ID, a single-use token."""
    spec = reader.spec
    wanted = {spec.single_use} if spec.single_use else set()
    if "{id}" in spec.content:
        wanted.add(spec.id[0])
    for place in sorted(wanted):
        if isinstance(reader.value(place, delivery, FoundSignatures([], {})), Refused):
            delivery = put(delivery, place, uuid.uuid4().hex)
    return delivery


def put(delivery: Signed, place: str, value: str) -> Signed:
    """Return the delivery with a value at a place."""
    kind, _, name = place.partition(":")
    if kind == "header":
        headers = CIMultiDict(delivery.headers)
        headers[name] = value
        return delivery._replace(headers=headers)
    if kind == "json":
        return delivery._replace(body=_with_field(delivery.body, name.split("."), value))
    joined = b"&" if delivery.body else b""
    return delivery._replace(body=delivery.body + joined + f"{name}={value}".encode())


def _with_field(body: bytes, path: list[str], value: str) -> bytes:
    try:
        whole = msgspec.json.decode(body, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        whole = {}
    holder = whole
    for step in path[:-1]:
        inner = holder.get(step)
        holder[step] = holder = inner if isinstance(inner, dict) else {}
    # Senders write a time in milliseconds as a number. No other value of 13 digits is put here.
    holder[path[-1]] = int(value) if value.isdecimal() and len(value) == 13 else value
    return msgspec.json.encode(whole)
