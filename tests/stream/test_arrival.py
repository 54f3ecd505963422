"""Rows: what is appended or spooled for a message. No Redis here."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from hookmill.message import PACKED_VERSION, SAFE_VERSION, Message
from hookmill.signatures import Token
from hookmill.stream.arrival import Arrival, Row, row_of
from tests.support import message

RECEIVED = 1_790_000_000_000
DAY_MS = 86_400_000
WRITTEN = (SAFE_VERSION, PACKED_VERSION)

SPOOLED_BY_0_1 = (
    b"\x85\xa6fields\x82\xc4\x02id\xc4\x02m1\xc4\x04body\xc4\x02{}"
    b"\xa5token\xc4\x01t\xa7expires\x01\xabremember_ms\x02\xa6spread\xc4\x08source\x00k"
)


def arrival(**fields: Any) -> Arrival:
    given = message(received_ms=RECEIVED, id="m1")
    values = {name: getattr(given, name) for name in given.__struct_fields__}
    return Arrival(**{**values, **fields})


def test_a_row_that_release_0_1_spooled_is_read() -> None:
    row = msgspec.msgpack.decode(SPOOLED_BY_0_1, type=Row)
    assert row == Row({b"id": b"m1", b"body": b"{}"}, b"t", 1, 2, b"source\0k")
    assert msgspec.msgpack.encode(row) == SPOOLED_BY_0_1


def test_a_message_without_a_token_has_none_in_its_row() -> None:
    row = row_of(message(b"{}", id="m1"))
    assert (row.token, row.expires, row.remember_ms) == (b"", 0, 0)
    assert row.fields[b"body"] == b"{}"


@pytest.mark.parametrize(
    ("expires", "remember_ms"),
    [
        (RECEIVED // 1000 + 300, 300_000),
        (RECEIVED // 1000 - 5, 1),  # the clocks differ a little
        (RECEIVED // 1000 + 10 * 366 * 86_400, 366 * DAY_MS),
    ],
    ids=["until it expires", "a moment at least", "a year at most"],
)
def test_a_token_is_remembered_from_the_receipt_until_it_expires(
    expires: int, remember_ms: int
) -> None:
    row = row_of(arrival(token=Token(b"d" * 16, expires)))
    assert (row.expires, row.remember_ms) == (expires, remember_ms)


def test_two_sources_do_not_share_the_use_of_a_token() -> None:
    token = Token(b"d" * 16, RECEIVED // 1000 + 300)
    one, other = (row_of(arrival(source=name, token=token)) for name in ("one", "other"))
    assert len(one.token) == len(other.token) == 16
    assert one.token != other.token


def test_the_partition_key_is_the_ordering_key_else_the_signed_id_else_nothing() -> None:
    assert row_of(arrival(key="7", id_is_signed=True)).partition_key == b"qstash\x007"
    assert row_of(arrival(id_is_signed=True)).partition_key == b"qstash\0m1"
    assert row_of(arrival()).partition_key == b""


@pytest.mark.parametrize("version", WRITTEN)
def test_the_trace_is_beside_the_message_which_is_read_as_without_it(version: int) -> None:
    plain = row_of(arrival(), version).fields
    traced = row_of(arrival(trace=b"00-...", baggage=b"a=1"), version).fields
    assert traced == {**plain, b"trace": b"00-...", b"baggage": b"a=1"}
    assert Message.from_fields(traced) == Message.from_fields(plain)
    assert b"baggage" not in row_of(arrival(baggage=b"a=1"), version).fields


@pytest.mark.parametrize("body", [b"{}", bytes(20_000)], ids=["small", "large"])
def test_a_window_is_beside_the_message_only_where_every_worker_reads_version_3(
    body: bytes,
) -> None:
    given = arrival(window=3600, body=body)
    row, plain = row_of(given, PACKED_VERSION), row_of(arrival(body=body), PACKED_VERSION)
    assert row.fields == {**plain.fields, b"window": b"3600"}
    assert Message.from_fields(row.fields) == Message.from_fields(plain.fields)
    assert b"window" not in row_of(given, SAFE_VERSION).fields
    # What waits in the spool may be drained when a worker of an older release runs.
    assert row.in_version_2() == row_of(given, SAFE_VERSION)
