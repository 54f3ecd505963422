"""Intake: what a genuine delivery becomes, and its ordering key and partition."""

from __future__ import annotations

import gzip
import hashlib

import pytest
from msgspec.structs import replace

from hookmill.config.sources import Source
from hookmill.message import Message
from hookmill.stream.arrival import row_of
from receiver.intake import admit
from tests.receiver.requests import (
    MARBLE,
    NAMED_AFTER_BODY,
    NOW,
    ORDERED,
    QSTASH,
    SOURCES,
    TIMESTAMPED,
    RawHeaders,
    arrival_of,
    message_of,
    refusal_of,
    request,
    signed,
)

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


def test_a_message_takes_the_window_of_its_source_along() -> None:
    delivery = signed(QSTASH, b"{}", (b"Upstash-Message-Id", b"msg_1"))
    assert arrival_of(admit(QSTASH, delivery, NOW)).window == 0
    assert arrival_of(admit(replace(QSTASH, window=600), delivery, NOW)).window == 600
