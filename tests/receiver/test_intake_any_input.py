"""Intake of any request: it ends in a message, a reply or a refusal."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from multidict import CIMultiDict

from hookmill.config.identity import identify_by
from hookmill.config.sources import Source
from hookmill.message import Message
from hookmill.signatures import Signed
from hookmill.signatures.presets import PRESETS
from hookmill.signatures.spec_verifier import SpecVerifier
from receiver.intake import Admitted, ReceivedRequest, admit, precheck
from receiver.responses import Refusal
from tests.receiver.requests import (
    LIMIT,
    NOW,
    SOURCES,
    RawHeaders,
    _shown,
    arrival_of,
    message_of,
    request,
    signed,
)
from tests.support import CURRENT_KEY, MARBLE_SECRET, NEXT_KEY

NAMES = st.sampled_from(
    [
        b"Upstash-Signature",
        b"x-marble-signature",
        b"x-marble-timestamp",
        b"Upstash-Message-Id",
        b"Content-Encoding",
        b"Content-Type",
        b"Host",
    ]
)
SECRETS = (CURRENT_KEY, NEXT_KEY, MARBLE_SECRET)
ANY_BYTES = st.binary() | st.sampled_from(SECRETS).map(str.encode)  # which must never be shown
RAW_HEADERS = st.lists(st.tuples(NAMES | ANY_BYTES, ANY_BYTES), max_size=6).map(tuple)
FIELDS = st.dictionaries(
    st.sampled_from(["id", "type", "event", "data"]),
    st.none() | st.booleans() | st.integers() | st.text() | st.lists(st.text(), max_size=2),
).map(lambda fields: json.dumps(fields).encode())
BODIES = ANY_BYTES | FIELDS


def check(admitted: Admitted | Message) -> None:
    if isinstance(admitted, Message):
        assert Message.from_fields(admitted.to_fields()).to_fields() == admitted.to_fields()
        assert admitted.id
        list(admitted.headers.items())
        return
    assert isinstance(admitted, Refusal), admitted  # because no source here has a handshake
    assert admitted.status == 401
    assert admitted.code.replace("_", "").isalpha()
    said = f"{admitted.code} {admitted.detail}"
    assert not any(secret in said for secret in SECRETS)
    said.encode()  # it can be logged and sent


@pytest.mark.parametrize(
    ("preset", "headers", "body", "is_remembered"),
    [
        ("stripe", {}, b'{"id":"evt_1"}', False),
        ("stripe", {}, b"{}", True),
        ("slack", {}, b"text=no+id", True),
        ("slack", {}, b"trigger_id=1.2", False),
        ("linear", {"Linear-Delivery": "l-1"}, b'{"webhookTimestamp":1700000000000}', True),
        ("svix", {}, b"{}", False),
        ("zoom", {}, b'{"event":"e"}', True),
        ("github", {"X-GitHub-Delivery": "d-1"}, b"{}", False),  # without a signed time
    ],
)
def test_a_copy_under_another_id_is_found_by_the_data_that_was_signed_once(
    preset: str, headers: dict[str, str], body: bytes, is_remembered: bool
) -> None:
    scheme = SpecVerifier(PRESETS[preset].spec, ["whsec_MDEyMzQ1Njc4OQ=="])
    source = Source(preset, f"/{preset}", scheme, identify_by(scheme.spec))
    delivery = scheme.sign(Signed(CIMultiDict(headers), body, source.path), NOW)
    sent = ReceivedRequest(source.path, delivery.headers, (), delivery.body)
    first, second = (arrival_of(admit(source, sent, NOW + later)) for later in (0, 1))
    assert (first.token is not None) == is_remembered
    assert first.token == second.token
    if is_remembered:
        assert first.id == second.id  # even if the delivery has no ID


@given(
    source=st.sampled_from(SOURCES),
    raw_headers=RAW_HEADERS,
    target=ANY_BYTES,
    body=BODIES,
    now=st.floats(0, 4e9),
)
@settings(deadline=None, max_examples=300)
def test_any_bytes_at_all_end_in_a_refusal(
    source: Source, raw_headers: RawHeaders, target: bytes, body: bytes, now: float
) -> None:
    admitted = admit(source, request(_shown(target), raw_headers, body), now)
    assert isinstance(admitted, Refusal)
    check(admitted)


@given(
    source=st.sampled_from(SOURCES),
    raw_headers=RAW_HEADERS,
    body=BODIES,
    edit=st.tuples(st.integers(0, 400), st.binary(max_size=3)),
)
@settings(deadline=None, max_examples=300)
def test_any_headers_beside_a_genuine_or_damaged_signature_end_in_a_verdict(
    source: Source, raw_headers: RawHeaders, body: bytes, edit: tuple[int, bytes]
) -> None:
    genuine = signed(source, body)
    check(admit(source, request(source.path, (*genuine.raw_headers, *raw_headers), body), NOW))
    place, change = edit
    damaged = tuple(
        (name, value[:place] + change + value[place + 1 :]) for name, value in genuine.raw_headers
    )
    check(admit(source, request(source.path, (*damaged, *raw_headers), body), NOW))


@given(source=st.sampled_from(SOURCES), body=BODIES)
@settings(deadline=None, max_examples=300)
def test_any_body_that_is_signed_is_accepted_and_comes_back_from_its_fields(
    source: Source, body: bytes
) -> None:
    admitted = message_of(admit(source, signed(source, body), NOW))
    assert admitted.body == body
    check(admitted)


@given(
    method=st.just("POST") | st.text(),
    raw_headers=RAW_HEADERS,
    length=st.none() | st.integers(min_value=0),
)
@settings(deadline=None)
def test_the_check_before_the_body_is_read_never_raises(
    method: str, raw_headers: RawHeaders, length: int | None
) -> None:
    verdict = precheck(method, request("/", raw_headers, b"").headers, length, LIMIT)
    assert verdict is None or verdict.status in {405, 413, 415}
