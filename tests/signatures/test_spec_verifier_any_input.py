"""The one verifier: whatever comes, it ends in a verdict and not in an exception."""

from __future__ import annotations

import re
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from multidict import CIMultiDict

from hookmill.signatures import Refused, Signed
from hookmill.signatures.spec import SignatureSpec
from tests.signatures.senders import (
    ALL,
    BODIES,
    BODY,
    NOW,
    SYMMETRIC,
    TOKENS,
    delivery,
    genuine,
    scheme_of,
    signed_by,
    spec_of,
    with_header,
)


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
