"""The message at rest: its wire format to the byte, and how an entry that is not ours is read."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hookmill.errors import WireVersionError
from hookmill.message import (
    RESET_BY_REPLAY,
    Death,
    Fields,
    Message,
    Progress,
    fresh_id,
    pack_headers,
)

MESSAGE = Message(
    id="msg_2Zq",
    source="qstash",
    type="order.päid",
    body=b'{"type":"order.p\xc3\xa4id"}\r\n\x00\xff',
    received_ms=1_795_253_400_123,
    header_block=b"Upstash-Message-Id: msg_2Zq\r\nX-Odd: \xe4: b",
    key="order ä",
)

# Version 1 as it stands in the streams of those who run it. A change of any byte here needs a new
# version, and a reader for this one; a field more needs a value for entries that lack it.
VERSION_1: Fields = {
    b"version": b"1",
    b"digest": bytes.fromhex("42f70b087d932b48fadf4228ba1bbaf9"),  # b2sum -l 128
    b"id": b"msg_2Zq",
    b"source": b"qstash",
    b"type": b"order.p\xc3\xa4id",
    b"key": b"order \xc3\xa4",
    b"received": b"1795253400123",
    b"headers": b"Upstash-Message-Id: msg_2Zq\r\nX-Odd: \xe4: b",
    b"body": b'{"type":"order.p\xc3\xa4id"}\r\n\x00\xff',
}

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
MESSAGES = st.builds(
    Message,
    id=TEXT,
    source=TEXT,
    type=TEXT,
    body=st.binary(),
    received_ms=st.integers(0, 2**53),
    header_block=st.binary(),
    key=TEXT,
)
COUNTS = st.integers(0, 2**53)


def test_version_1_of_the_wire_format_is_this_to_the_byte_and_in_this_order() -> None:
    assert list(MESSAGE.to_fields().items()) == list(VERSION_1.items())
    assert Message.from_fields(VERSION_1) == MESSAGE


def test_an_entry_without_a_key_waits_for_no_other() -> None:
    without = {name: value for name, value in VERSION_1.items() if name != b"key"}
    assert Message.from_fields(without).key == ""


@given(MESSAGES)
def test_every_message_comes_back_as_it_was_written(written: Message) -> None:
    assert Message.from_fields(written.to_fields()) == written


def test_what_a_group_adds_stands_beside_the_message_and_does_not_touch_it() -> None:
    progress = Progress(
        owner="1795253400123-0",
        handler="send",
        attempts=3,
        failed_ms=1_795_253_401_000,
        unknown_ms=7,
    )
    death = Death(reason="failed", error="Boom \udcff\n", died_ms=1_795_253_402_000)
    added = {
        b"owner": b"1795253400123-0",
        b"handler": b"send",
        b"attempts": b"3",
        b"failed": b"1795253401000",
        b"unknown": b"7",
        b"reason": b"failed",
        b"error": b"Boom \\udcff\n",
        b"died": b"1795253402000",
    }

    assert {**progress.to_fields(), **death.to_fields()} == added
    assert not added.keys() & VERSION_1.keys()
    assert Message.from_fields({**VERSION_1, **added}) == MESSAGE
    assert Progress.from_fields({**VERSION_1, **added}, "9-9") == progress
    assert Death.from_fields(added) == msgspec.structs.replace(death, error="Boom \\udcff\n")


def test_a_replay_leaves_the_count_and_the_death_behind_and_keeps_owner_and_handler() -> None:
    progress = Progress(owner="1-0", handler="send", attempts=3, failed_ms=5, unknown_ms=7)
    fields = {**progress.to_fields(), **Death(reason="x", error="y", died_ms=1).to_fields()}

    for name in RESET_BY_REPLAY:
        del fields[name]

    assert fields == {b"owner": b"1-0", b"handler": b"send"}
    assert Progress.from_fields(fields, "9-9") == Progress(owner="1-0", handler="send")


@given(owner=TEXT, handler=TEXT, attempts=COUNTS, failed_ms=COUNTS, unknown_ms=COUNTS)
def test_every_progress_comes_back_as_it_was_written(
    owner: str, handler: str, attempts: int, failed_ms: int, unknown_ms: int
) -> None:
    written = Progress(
        owner=owner, handler=handler, attempts=attempts, failed_ms=failed_ms, unknown_ms=unknown_ms
    )

    assert Progress.from_fields(written.to_fields(), "9-9") == written


def test_an_entry_straight_from_the_receivers_owns_itself() -> None:
    assert Progress.from_fields(VERSION_1, "5-1") == Progress(owner="5-1")


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({b"version": b"2"}, "wire version '2'; this release reads version 1"),
        ({b"version": b"\xff\n"}, "wire version '\\ufffd\\n'; this release reads version 1"),
        ({b"version": None}, "wire version none; this release reads version 1"),
        ({b"body": None}, "not an entry of ours: no field b'body'"),
        ({b"headers": None}, "not an entry of ours: no field b'headers'"),
        ({b"received": b"yesterday"}, "not an entry of ours: invalid literal for int() "),
        ({b"id": b"\xff"}, "not an entry of ours: 'utf-8' codec can't decode byte 0xff "),
    ],
)
def test_an_entry_of_another_version_or_another_hand_is_told_from_a_message(
    changed: dict[bytes, bytes | None], said: str
) -> None:
    fields = {name: raw for name, raw in {**VERSION_1, **changed}.items() if raw is not None}

    with pytest.raises(WireVersionError) as caught:
        Message.from_fields(fields)

    assert str(caught.value).startswith(said)


NAMES = st.sampled_from(
    [
        *VERSION_1,
        b"owner",
        b"handler",
        b"attempts",
        b"failed",
        b"unknown",
        b"reason",
        b"error",
        b"died",
    ]
)


@given(st.dictionaries(NAMES, st.binary() | st.just(b"1")))
def test_whatever_stands_in_an_entry_only_its_version_may_be_refused(fields: Fields) -> None:
    # Any other raise would lose the message: nobody could say what became of it.
    Progress.from_fields(fields, "1-0")
    Death.from_fields(fields)
    try:
        found = Message.from_fields(fields)
    except WireVersionError:
        return
    assert fields[b"version"] == b"1"
    assert found.body == fields[b"body"]


def test_ids_count_for_each_source_alone() -> None:
    def digest(source: str, message_id: str) -> bytes:
        return msgspec.structs.replace(MESSAGE, source=source, id=message_id).digest

    assert len({digest("qstash", "1"), digest("marble", "1"), digest("qstash", "2")}) == 3
    assert digest("a", "bc") != digest("ab", "c")
    assert digest("qstash", "1") == digest("qstash", "1")
    assert len(digest("qstash", "1")) == 16


def test_the_digest_depends_on_nothing_else() -> None:
    other = Message(id="msg_2Zq", source="qstash", type="", body=b"", received_ms=0)

    assert other.digest == MESSAGE.digest


def test_headers_are_kept_as_they_stood_less_credentials_and_the_connections_own() -> None:
    pairs = (
        (b"Host", b"hooks.example"),
        (b"Upstash-Signature", b"a.b.c"),
        (b"AUTHORIZATION", b"Bearer shh"),
        (b"Proxy-Authorization", b"Basic shh"),
        (b"cookie", b"session=shh"),
        (b"Content-Length", b"2"),
        (b"Transfer-Encoding", b"chunked"),
        (b"Connection", b"keep-alive"),
        (b"Expect", b"100-continue"),
        (b"X-Tag", b"one"),
        (b"x-tag", b"two: three"),
        (b"X-Empty", b""),
        (b"X-Latin", b"\xe4"),
    )

    block = pack_headers(pairs)

    assert block == (
        b"Upstash-Signature: a.b.c\r\nX-Tag: one\r\nx-tag: two: three\r\nX-Empty: \r\nX-Latin: \xe4"
    )
    headers = msgspec.structs.replace(MESSAGE, header_block=block).headers
    assert headers.getall("X-TAG") == ["one", "two: three"]
    assert headers["x-empty"] == ""
    assert headers["X-Latin"].encode("utf-8", "surrogateescape") == b"\xe4"
    assert "Authorization" not in headers
    assert "shh" not in str(headers)


def test_a_message_without_headers_has_none() -> None:
    assert not msgspec.structs.replace(MESSAGE, header_block=b"").headers
    assert pack_headers(()) == b""


HEADER_NAMES = st.from_regex(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+", fullmatch=True).filter(
    lambda name: pack_headers(((name, b""),)) != b""
)
HEADER_VALUES = st.binary().filter(lambda value: b"\r" not in value and b"\n" not in value)


@given(st.lists(st.tuples(HEADER_NAMES, HEADER_VALUES)))
def test_every_header_that_http_allows_comes_back(pairs: list[tuple[bytes, bytes]]) -> None:
    headers = msgspec.structs.replace(MESSAGE, header_block=pack_headers(tuple(pairs))).headers

    found = [
        (name.encode(), value.encode("utf-8", "surrogateescape")) for name, value in headers.items()
    ]
    assert found == pairs


def test_the_time_of_receipt_is_in_utc_to_the_millisecond() -> None:
    assert MESSAGE.received_at == datetime(2026, 11, 21, 9, 30, 0, 123_000, UTC)


def test_a_fresh_id_is_never_the_same_and_tells_that_it_is_ours() -> None:
    made = {fresh_id() for _ in range(1000)}

    assert len(made) == 1000
    assert all(len(name) == 35 and name.startswith("hm_") for name in made)
