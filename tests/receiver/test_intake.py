"""Intake: any request becomes a message, a reply or a refusal."""

from __future__ import annotations

import gzip
import hashlib
import json
from typing import NoReturn

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from multidict import CIMultiDict

from hookmill.config.identity import (
    id_from_body,
    identify_by,
    identify_marble,
    identify_qstash,
    ordered_by,
)
from hookmill.config.sources import Source
from hookmill.message import Message
from hookmill.signatures import Scheme, Signed
from hookmill.signatures.marble import marble_scheme
from hookmill.signatures.presets import PRESETS
from hookmill.signatures.qstash import QStash
from hookmill.signatures.spec_verifier import SpecVerifier
from hookmill.stream.arrival import Arrival, row_of
from receiver.intake import Admitted, ReceivedRequest, admit, precheck, too_large
from receiver.responses import Refusal
from tests.support import CURRENT_KEY, MARBLE_SECRET, NEXT_KEY, signed_headers

NOW = 1_700_000_000.25
LIMIT = 1000
PUBLIC_URL = "https://app.example"

QSTASH = Source(
    "qstash", "/qstash", QStash([CURRENT_KEY, NEXT_KEY], public_url=PUBLIC_URL), identify_qstash
)
MARBLE = Source("marble", "/marble", marble_scheme([MARBLE_SECRET]), identify_marble)
TIMESTAMPED = Source(
    "marble", "/cms", marble_scheme([MARBLE_SECRET], with_time=True), identify_marble
)
ORDERED = MARBLE._replace(key_of=ordered_by("data.id"))
NAMED_AFTER_BODY = QSTASH._replace(identify=id_from_body(identify_qstash))
SOURCES = [QSTASH, MARBLE, TIMESTAMPED, ORDERED, NAMED_AFTER_BODY]

RawHeaders = tuple[tuple[bytes, bytes], ...]


def request(target: str, raw_headers: RawHeaders, body: bytes) -> ReceivedRequest:
    """A request as aiohttp decodes it: bytes that are not UTF-8 become surrogate escapes."""
    headers = CIMultiDict[str]()
    for name, value in raw_headers:
        headers.add(_shown(name), _shown(value))
    return ReceivedRequest(target, headers, raw_headers, body)


def _shown(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")


def signed(
    source: Source, body: bytes, *more: tuple[bytes, bytes], scheme: Scheme | None = None
) -> ReceivedRequest:
    """A genuine delivery to a source, or one that another scheme has signed."""
    made = signed_headers(scheme or source.scheme, body, source.path, NOW)
    pairs = tuple((name.encode(), value.encode()) for name, value in made.items())
    return request(source.path, (*pairs, *more), body)


def message_of(admitted: Admitted) -> Message:
    assert isinstance(admitted, Message), admitted
    return admitted


def arrival_of(admitted: Admitted) -> Arrival:
    assert isinstance(admitted, Arrival), admitted
    return admitted


def refusal_of(admitted: Admitted) -> Refusal:
    assert isinstance(admitted, Refusal), admitted
    return admitted


# --- accepted ---


def test_a_genuine_delivery_becomes_a_message() -> None:
    body = b'{"type":"order.paid","order_id":"A-1"}'
    delivery = signed(
        QSTASH,
        body,
        (b"Upstash-Message-Id", b"msg_1"),
        (b"Content-Type", b"application/json"),
        (b"X-Bytes", b"\xff\xe4"),
        (b"X-Twice", b"1"),
        (b"X-Twice", b"2"),
        (b"X-Empty", b""),
        (b"Authorization", b"Bearer hush"),
        (b"COOKIE", b"hush"),
        (b"Proxy-Authorization", b"hush"),
        (b"Host", b"10.0.0.7:8080"),
    )
    message = message_of(admit(QSTASH, delivery, NOW))
    assert (message.id, message.source, message.type) == ("msg_1", "qstash", "order.paid")
    assert message.body == body
    assert message.received_ms == 1_700_000_000_250
    token = delivery.headers["Upstash-Signature"].encode()
    assert message.header_block == (
        b"Upstash-Signature: " + token + b"\r\n"
        b"Upstash-Message-Id: msg_1\r\n"
        b"Content-Type: application/json\r\n"
        b"X-Bytes: \xff\xe4\r\n"
        b"X-Twice: 1\r\n"
        b"X-Twice: 2\r\n"
        b"X-Empty: "
    )
    assert message.headers.getall("x-twice") == ["1", "2"]


def test_marbles_message_has_the_id_that_was_signed() -> None:
    body = b'{"id":"evt_1","type":"post.published","data":{}}'
    for source in (MARBLE, TIMESTAMPED):
        delivery = signed(source, body, (b"Upstash-Message-Id", b"msg_forged"))
        message = message_of(admit(source, delivery, NOW))
        assert (message.id, message.source, message.type) == ("evt_1", "marble", "post.published")


def test_a_delivery_without_an_id_gets_a_fresh_one_each_time() -> None:
    # Two updates may have the same bytes. To run a duplicate is better than to drop an update.
    for source in (QSTASH, MARBLE):
        deliveries = [signed(source, b'{"hello":"world"}') for _ in range(2)]
        first, second = (message_of(admit(source, delivery, NOW)) for delivery in deliveries)
        assert first.type == second.type == ""
        assert first.id != second.id
        assert first.id.startswith("hm_")


def test_the_same_token_without_an_id_is_the_same_delivery() -> None:
    delivery = signed(QSTASH, b'{"hello":"world"}')
    first, second = (message_of(admit(QSTASH, delivery, NOW)) for _ in range(2))
    assert first.id == second.id


def test_a_token_is_carried_along_where_the_scheme_has_one() -> None:
    arrival = arrival_of(admit(QSTASH, signed(QSTASH, b"{}"), NOW))
    assert arrival.token is not None
    assert len(arrival.token.digest) == 16
    assert arrival.token.expires == 1_700_000_300
    row = row_of(arrival)
    scoped = b"qstash\0" + arrival.token.digest  # a digest for each source
    assert row.token == hashlib.blake2b(scoped, digest_size=16).digest()
    assert row.remember_ms == 299_750  # from the receipt, a quarter of a second later
    signed_alone = arrival_of(admit(MARBLE, signed(MARBLE, b"{}"), NOW))
    row = row_of(signed_alone)
    assert (row.token, row.expires, row.remember_ms) == (b"", 0, 0)


# --- the ordering key, and what the partition follows ---

OLDER = b'{"event":"post.updated","data":{"id":"post_1"}}'
CURRENT = b'{"id":"evt_1","type":"post.updated","data":{"id":"post_1"}}'
WITH_ID = (b"Upstash-Message-Id", b"msg_1")


def test_a_message_has_the_key_that_its_source_is_ordered_by() -> None:
    for body in (OLDER, CURRENT):
        assert message_of(admit(ORDERED, signed(ORDERED, body), NOW)).key == "post_1"
        assert message_of(admit(MARBLE, signed(MARBLE, body), NOW)).key == ""
    assert message_of(admit(ORDERED, signed(ORDERED, b"not JSON"), NOW)).key == ""


@pytest.mark.parametrize(
    ("source", "body", "more", "is_signed"),
    [
        (MARBLE, CURRENT, (), True),
        (MARBLE, CURRENT, (WITH_ID,), True),
        (TIMESTAMPED, CURRENT, (), True),
        (MARBLE, OLDER, (WITH_ID,), False),
        (MARBLE, OLDER, (), False),  # a random ID
        (QSTASH, CURRENT, (WITH_ID,), False),
        (QSTASH, CURRENT, (), False),  # an ID that follows from the token
        (NAMED_AFTER_BODY, CURRENT, (WITH_ID,), True),
        (NAMED_AFTER_BODY, b"", (), True),
    ],
)
def test_an_id_is_signed_where_it_follows_from_the_body(
    source: Source, body: bytes, more: RawHeaders, is_signed: bool
) -> None:
    arrival = arrival_of(admit(source, signed(source, body, *more), NOW))
    assert arrival.id_is_signed is is_signed


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("body", [OLDER, CURRENT, b"{}", b"not JSON", b""])
def test_no_header_that_is_added_moves_a_delivery_to_another_partition(
    source: Source, body: bytes
) -> None:
    # In another partition its ID or token would not be found, and it would run twice.
    genuine = signed(source, body)
    added = [(), (WITH_ID,), ((b"Upstash-Message-Id", b"msg_2"),)]
    rows = [
        row_of(
            arrival_of(
                admit(source, request(source.path, (*genuine.raw_headers, *more), body), NOW)
            )
        )
        for more in added
    ]
    assert len({row.partition_key for row in rows}) == 1
    assert len({row.partition(64) for row in rows}) == 1


def test_where_ids_follow_from_bodies_no_header_makes_a_copy_another_message() -> None:
    genuine = signed(NAMED_AFTER_BODY, OLDER, WITH_ID)
    pairs = [pair for pair in genuine.raw_headers if pair != WITH_ID]
    changed = [
        (),
        ((b"Upstash-Message-Id", b"msg_2"),),
        ((b"Upstash-Message-Id", b"\xff"),),
        (WITH_ID, WITH_ID),
    ]
    first = message_of(admit(NAMED_AFTER_BODY, genuine, NOW))
    for more in changed:
        copy = request(genuine.target, (*pairs, *more), OLDER)
        assert message_of(admit(NAMED_AFTER_BODY, copy, NOW)).digest == first.digest
    # A retry of the sender has a new token.
    later = arrival_of(admit(NAMED_AFTER_BODY, signed(NAMED_AFTER_BODY, OLDER), NOW))
    assert later.digest == first.digest
    assert later.token is None  # its ID is signed, so no token is needed


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\x00\xff",
        b'{ "a" :1.0e0}\r\n',
        b'\xef\xbb\xbf{"type":"a"}',
        gzip.compress(b'{"type":"a"}', mtime=0),
        b"{" * 5000,
    ],
)
def test_the_raw_bytes_are_what_is_verified_and_kept(body: bytes) -> None:
    for source in SOURCES:
        message = message_of(admit(source, signed(source, body), NOW))
        assert message.body == body
        assert message.type == ""


def test_the_signature_is_for_the_received_path_and_query() -> None:
    delivery = signed(QSTASH, b"{}")
    assert isinstance(admit(QSTASH, delivery, NOW), Message)
    for target in ("/qstash?a=1", "/qstash/", "/QSTASH", "//qstash", "/", ""):
        refusal = refusal_of(admit(QSTASH, replace(delivery, target=target), NOW))
        assert refusal.code == "wrong_url", target


# --- refused ---


@pytest.mark.parametrize("source", SOURCES)
def test_what_does_not_verify_is_unauthorised(source: Source) -> None:
    unsigned = admit(source, request(source.path, (), b"{}"), NOW)
    assert refusal_of(unsigned)[:2] == (401, "header_missing")
    tampered = replace(signed(source, b"{}"), body=b"{ }")
    assert refusal_of(admit(source, tampered, NOW)).status == 401
    strange: Scheme = QStash(["sig_strange"], public_url=PUBLIC_URL)
    if source.name == "marble":
        strange = marble_scheme(["strange"], with_time=source is TIMESTAMPED)
    stranger = admit(source, signed(source, b"{}", scheme=strange), NOW)
    assert refusal_of(stranger)[:2] == (401, "signature_mismatch")


def test_the_refusal_has_the_code_and_detail_of_the_scheme() -> None:
    late = admit(QSTASH, signed(QSTASH, b"{}"), NOW + 360)
    assert late == Refusal(401, "expired", "the token expired 60 s ago")


@pytest.mark.parametrize(
    ("more", "code"),
    [
        (((b"Upstash-Message-Id", b"\xff"),), "message_id_malformed"),
        (((b"Upstash-Message-Id", b""),), "message_id_malformed"),
        (((b"Upstash-Message-Id", b"m" * 256),), "message_id_malformed"),
        (((b"Upstash-Message-Id", b"a"), (b"upstash-message-id", b"b")), "header_repeated"),
        (((b"x-marble-signature", b"x"), (b"Upstash-Signature", b"x")), "header_repeated"),
    ],
)
def test_headers_that_could_mean_two_things_or_none_are_refused(
    more: RawHeaders, code: str
) -> None:
    for source in (QSTASH, MARBLE, TIMESTAMPED, ORDERED):
        refusal = refusal_of(admit(source, signed(source, b"{}", *more), NOW))
        assert refusal[:2] == (401, code)


def test_nothing_is_read_of_a_delivery_that_does_not_verify() -> None:
    def must_not_be_asked(*asked: object) -> NoReturn:
        raise AssertionError("the body was looked at before its signature")

    source = QSTASH._replace(identify=must_not_be_asked, key_of=must_not_be_asked)
    refusal = admit(source, request("/qstash", ((b"Upstash-Signature", b"x"),), b"{}"), NOW)
    assert refusal_of(refusal).code == "token_malformed"


# --- before the body is read ---


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Content-Encoding": "identity"},
        {"content-encoding": " Identity "},
        {"Content-Type": "text/plain"},
        {"Content-Type": "application/gzip"},
        {"Expect": "100-continue"},
    ],
)
@pytest.mark.parametrize("length", [None, 0, LIMIT])
def test_a_post_within_the_limit_is_read(headers: dict[str, str], length: int | None) -> None:
    assert precheck("POST", CIMultiDict(headers), length, LIMIT) is None


@pytest.mark.parametrize(
    "method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS", "TRACE", "CONNECT", "post", "", "\udcff"]
)
def test_deliveries_come_with_post(method: str) -> None:
    refusal = precheck(method, CIMultiDict(), 0, LIMIT)
    assert refusal == Refusal(405, "method_not_allowed", "deliveries are sent with POST")


@pytest.mark.parametrize(
    "encodings",
    [["gzip"], ["GZIP"], ["br"], ["deflate, gzip"], ["identity", "gzip"], ["\udcff"], [""]],
)
def test_an_encoded_body_is_refused_before_it_is_read(encodings: list[str]) -> None:
    headers = CIMultiDict([("Content-Encoding", each) for each in encodings])
    assert precheck("POST", headers, 10, LIMIT) == Refusal(
        415, "content_encoding", "send the body without a Content-Encoding"
    )


@pytest.mark.parametrize("length", [LIMIT + 1, 10**30])
def test_a_body_announced_as_too_large_is_refused_before_it_is_read(length: int) -> None:
    refusal = precheck("POST", CIMultiDict(), length, LIMIT)
    assert (
        refusal
        == too_large(LIMIT)
        == Refusal(413, "too_large", "a body may have at most 1000 bytes")
    )


# --- any request ---

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
