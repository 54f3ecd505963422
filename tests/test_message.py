"""The stored message: its exact wire format, and how entries that are not ours are read."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hookmill.errors import WireVersionError
from hookmill.message import (
    PACKED_VERSION,
    RESET_BY_REPLAY,
    About,
    Death,
    Fields,
    Message,
    Progress,
    about_of,
    fresh_id,
)
from hookmill.stream.entries import STREAM, Entry, EntryRef
from tests.support import written_in_version_1

MESSAGE = Message(
    id="msg_2Zq",
    source="qstash",
    type="order.päid",
    body=b'{"type":"order.p\xc3\xa4id"}\r\n\x00\xff',
    received_ms=1_795_253_400_123,
    header_block=b"Upstash-Message-Id: msg_2Zq\r\nX-Odd: \xe4: b",
    key="order ä",
)

# The versions that streams in production contain. 2 and 3 are written, and all are read. Never
# change a byte here: a change needs a new version, and this one has to stay readable. A new field
# needs a default value for entries that do not have it.
VERSION_3: Fields = {
    b"digest": bytes.fromhex("42f70b087d932b48fadf4228ba1bbaf9"),  # b2sum -l 128
    b"id": b"msg_2Zq",
    b"v3": (
        b"\x95\xa6qstash\xabor"
        b"der.p\xc3\xa4id\xcf\x00\x00\x01\xa1\xfdp\xf2;"
        b"\xc4(Upstash-Message-Id: msg_2Zq\r\nX-Odd: \xe4: b"
        b'\xc4\x1a{"type":"order.p\xc3\xa4id"}\r\n\x00\xff'
    ),
    b"source": b"qstash",
    b"key": b"order \xc3\xa4",
}
VERSION_2: Fields = {
    b"version": b"2",
    b"digest": bytes.fromhex("42f70b087d932b48fadf4228ba1bbaf9"),  # b2sum -l 128
    b"id": b"msg_2Zq",
    b"about": b'["qstash","order.p\xc3\xa4id",1795253400123]',
    b"headers": b"Upstash-Message-Id: msg_2Zq\r\nX-Odd: \xe4: b",
    b"body": b'{"type":"order.p\xc3\xa4id"}\r\n\x00\xff',
    b"source": b"qstash",
    b"key": b"order \xc3\xa4",
}
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


def about(**values: str | bytes) -> bytes:
    """Return the bytes of the field `about`, with these values unchanged in it."""
    given = {"source": '"qstash"', "type": '""', "received": "0", **values}.values()
    return b"[%b]" % b",".join(
        value.encode() if isinstance(value, str) else value for value in given
    )


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


def test_version_2_of_the_wire_format_is_this_to_the_byte_and_in_this_order() -> None:
    assert list(MESSAGE.to_fields().items()) == list(VERSION_2.items())
    assert Message.from_fields(VERSION_2) == MESSAGE


def test_version_3_of_the_wire_format_is_this_to_the_byte_and_in_this_order() -> None:
    assert list(MESSAGE.to_fields(PACKED_VERSION).items()) == list(VERSION_3.items())
    assert Message.from_fields(VERSION_3) == MESSAGE


def test_a_message_without_a_key_has_two_fields_less_and_the_others_keep_their_places() -> None:
    free = msgspec.structs.replace(MESSAGE, key="")
    assert list(free.to_fields().items()) == list(VERSION_2.items())[:6]
    assert list(free.to_fields(PACKED_VERSION).items()) == list(VERSION_3.items())[:3]
    assert Message.from_fields(free.to_fields()) == free
    assert Message.from_fields(free.to_fields(PACKED_VERSION)) == free


def test_version_1_of_the_wire_format_can_still_be_read() -> None:
    assert written_in_version_1(MESSAGE) == VERSION_1
    assert Message.from_fields(VERSION_1) == MESSAGE


def test_an_older_entry_without_a_key_has_no_ordering_key() -> None:
    without = {name: value for name, value in VERSION_1.items() if name != b"key"}
    assert Message.from_fields(without).key == ""


@pytest.mark.parametrize("written", [VERSION_1, VERSION_2, VERSION_3])
def test_every_version_has_the_fields_that_the_scripts_read(written: Fields) -> None:
    # A worker of any release reads these fields, also of a message that it cannot read.
    entry = Entry(EntryRef(STREAM, "5-1"), written)
    assert entry.key == b"qstash:order \xc3\xa4"
    assert written[b"digest"] == MESSAGE.digest
    assert written[b"id"] == b"msg_2Zq"


@given(MESSAGES)
def test_every_message_is_read_as_it_was_written(written: Message) -> None:
    assert Message.from_fields(written.to_fields()) == written
    assert Message.from_fields(written.to_fields(PACKED_VERSION)) == written
    assert Message.from_fields(written_in_version_1(written)) == written


def test_the_fields_that_a_group_adds_do_not_change_the_message() -> None:
    progress = Progress(
        owner="1795253400123-0",
        handler="send",
        attempts=3,
        failed_ms=1_795_253_401_000,
        unknown_ms=7,
    )
    death = Death(reason="no \udcff", error="Boom \udcff\n", died_ms=1_795_253_402_000)
    added = {
        b"owner": b"1795253400123-0",
        b"handler": b"send",
        b"attempts": b"3",
        b"failed": b"1795253401000",
        b"unknown": b"7",
        b"reason": b"no \\udcff",
        b"error": b"Boom \\udcff\n",
        b"died": b"1795253402000",
    }

    assert {**progress.to_fields(), **death.to_fields()} == added
    for written in (VERSION_1, VERSION_2, VERSION_3):
        assert not added.keys() & written.keys()
        assert Message.from_fields({**written, **added}) == MESSAGE
        assert Progress.from_fields({**written, **added}, "9-9") == progress
    assert Death.from_fields(added) == msgspec.structs.replace(
        death, reason="no \\udcff", error="Boom \\udcff\n"
    )


def test_a_replay_resets_attempts_and_death_and_keeps_owner_and_handler() -> None:
    progress = Progress(owner="1-0", handler="send", attempts=3, failed_ms=5, unknown_ms=7)
    fields = {**progress.to_fields(), **Death(reason="x", error="y", died_ms=1).to_fields()}

    for name in RESET_BY_REPLAY:
        del fields[name]

    assert fields == {b"owner": b"1-0", b"handler": b"send"}
    assert Progress.from_fields(fields, "9-9") == Progress(owner="1-0", handler="send")


@given(owner=TEXT, handler=TEXT, attempts=COUNTS, failed_ms=COUNTS, unknown_ms=COUNTS)
def test_every_progress_is_read_as_it_was_written(
    owner: str, handler: str, attempts: int, failed_ms: int, unknown_ms: int
) -> None:
    written = Progress(
        owner=owner, handler=handler, attempts=attempts, failed_ms=failed_ms, unknown_ms=unknown_ms
    )

    assert Progress.from_fields(written.to_fields(), "9-9") == written


def test_an_entry_that_a_receiver_appended_is_its_own_owner() -> None:
    assert Progress.from_fields(VERSION_2, "5-1") == Progress(owner="5-1")


@pytest.mark.parametrize(
    ("written", "changed", "said"),
    [
        (VERSION_2, {b"version": b"3"}, "wire version '3'; this release reads versions 1 to 3"),
        (VERSION_2, {b"version": b"\xff\n"}, "wire version '\\ufffd\\n'; this release reads "),
        (VERSION_2, {b"version": None}, "wire version none; this release reads versions 1 to 3"),
        (VERSION_2, {b"version": None, b"v4": b""}, "wire version '4'; this release reads "),
        (VERSION_3, {b"id": None}, "not an entry of ours: no field b'id'"),
        (VERSION_3, {b"key": b"\xff"}, "not an entry of ours: 'utf-8' codec can't decode "),
        (VERSION_3, {b"v3": b""}, "not an entry of ours: Input data was truncated"),
        (VERSION_3, {b"v3": VERSION_3[b"v3"][:-1]}, "not an entry of ours: Input data was trunc"),
        (VERSION_3, {b"v3": b"\x92\xa1a\xa1b"}, "not an entry of ours: Expected `array` of at "),
        (VERSION_3, {b"v3": b"\x93\xa1a\xa1b\xff"}, "not an entry of ours: Expected `int` >= 0"),
        (VERSION_3, {b"v3": b"\x93\xa1a\xa1\xff\x01"}, "not an entry of ours: 'utf-8' codec "),
        (VERSION_3, {b"v3": b"\x96\xa1a\xa1b\x01\xc4\x00\xc4\x00" + b"\x91" * 9000}, "not an ent"),
        (VERSION_2, {b"version": b"1"}, "not an entry of ours: no field b'type'"),
        (VERSION_1, {b"version": b"2"}, "not an entry of ours: no field b'about'"),
        (VERSION_2, {b"body": None}, "not an entry of ours: no field b'body'"),
        (VERSION_2, {b"headers": None}, "not an entry of ours: no field b'headers'"),
        (VERSION_2, {b"id": b"\xff"}, "not an entry of ours: 'utf-8' codec can't decode "),
        (VERSION_2, {b"key": b"\xff"}, "not an entry of ours: 'utf-8' codec can't decode "),
        (VERSION_2, {b"about": b""}, "not an entry of ours: Input data was truncated"),
        (VERSION_2, {b"about": b"{}"}, "not an entry of ours: Expected `array`, got `object`"),
        (VERSION_2, {b"about": b'["qstash",""]'}, "not an entry of ours: Expected `array` of at "),
        (VERSION_2, {b"about": about(type="1")}, "not an entry of ours: Expected `str`, got `int`"),
        (VERSION_2, {b"about": about(source=b'"\xff"')}, "not an entry of ours: 'utf-8' codec "),
        (VERSION_2, {b"about": about(source='"\\ud800"')}, "not an entry of ours: JSON is malf"),
        (VERSION_2, {b"about": about(received="1.5")}, "not an entry of ours: Expected `int`"),
        (VERSION_2, {b"about": about(received="-1")}, "not an entry of ours: Expected `int` >= 0"),
        (VERSION_2, {b"about": about(received="9" * 9000)}, "not an entry of ours: Integer value"),
        (
            VERSION_2,
            {b"about": about(more="[" * 100_000)},
            "not an entry of ours: maximum recursion",
        ),
        (VERSION_1, {b"body": None}, "not an entry of ours: no field b'body'"),
        (VERSION_1, {b"received": b"yesterday"}, "not an entry of ours: invalid literal for int()"),
        (VERSION_1, {b"received": b"9" * 9000}, "not an entry of ours: Exceeds the limit"),
        (VERSION_1, {b"id": b"\xff"}, "not an entry of ours: 'utf-8' codec can't decode "),
    ],
)
def test_an_entry_of_another_version_or_another_program_is_refused(
    written: Fields, changed: dict[bytes, bytes | None], said: str
) -> None:
    fields = {name: raw for name, raw in {**written, **changed}.items() if raw is not None}

    with pytest.raises(WireVersionError) as caught:
        Message.from_fields(fields)

    assert str(caught.value).startswith(said)


def test_fields_that_a_later_release_adds_to_version_2_are_ignored() -> None:
    added = {**VERSION_2, b"about": about(more='{"a":[1]}'), b"more": b"\xff"}
    assert Message.from_fields(added) == msgspec.structs.replace(MESSAGE, type="", received_ms=0)


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        (VERSION_1, About("qstash", "order.päid", 1_795_253_400_123)),
        (VERSION_2, About("qstash", "order.päid", 1_795_253_400_123)),
        (VERSION_3, About("qstash", "order.päid", 1_795_253_400_123)),
        ({**VERSION_3, b"v3": b"\xff"}, About("qstash", "", 0)),
        ({**VERSION_3, b"v3": b""}, About("qstash", "", 0)),
        ({**VERSION_2, b"version": b"3"}, About("qstash", "order.päid", 1_795_253_400_123)),
        ({**VERSION_2, b"about": b"\xff"}, About("qstash", "", 0)),
        (
            {**VERSION_1, b"about": about(x="[" * 9000)},
            About("qstash", "order.päid", 1_795_253_400_123),
        ),
        (
            {b"source": b"\xff", b"type": b"\xff", b"received": b"\xff"},
            About("\ufffd", "\ufffd", 0),
        ),
        ({b"received": b"-7"}, About("", "", 0)),
        ({}, About("", "", 0)),
    ],
)
def test_source_type_and_time_of_a_message_are_read_as_far_as_possible(
    fields: Fields, told: About
) -> None:
    assert about_of(fields) == told


NAMES = st.sampled_from(
    [
        *(VERSION_1 | VERSION_2 | VERSION_3),
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


# Random values, and values that are almost right.
JSONS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner),
)
ABOUTS = st.tuples(TEXT, TEXT, st.integers() | JSONS) | st.lists(JSONS, max_size=4)
VALUES = st.binary() | st.sampled_from([b"1", b"2"]) | (JSONS | ABOUTS).map(msgspec.json.encode)


@given(st.dictionaries(NAMES, VALUES), st.sampled_from([{}, VERSION_1, VERSION_2]))
def test_any_entry_is_read_or_refused_with_a_wire_version_error(odd: Fields, sound: Fields) -> None:
    fields = {**sound, **odd}
    # Any other exception would leave the message pending without a reason.
    Progress.from_fields(fields, "1-0")
    Death.from_fields(fields)
    about_of(fields)
    try:
        found = Message.from_fields(fields)
    except WireVersionError:
        return
    assert fields[b"version"] in {b"1", b"2"}
    assert found.body == fields[b"body"]


def test_equal_ids_of_different_sources_have_different_digests() -> None:
    def digest(source: str, message_id: str) -> bytes:
        return msgspec.structs.replace(MESSAGE, source=source, id=message_id).digest

    assert len({digest("qstash", "1"), digest("marble", "1"), digest("qstash", "2")}) == 3
    assert digest("a", "bc") != digest("ab", "c")
    assert digest("qstash", "1") == digest("qstash", "1")
    assert len(digest("qstash", "1")) == 16


def test_the_digest_depends_on_nothing_else() -> None:
    other = Message(id="msg_2Zq", source="qstash", type="", body=b"", received_ms=0)

    assert other.digest == MESSAGE.digest


def test_the_time_of_receipt_is_in_utc_to_the_millisecond() -> None:
    assert MESSAGE.received_at == datetime(2026, 11, 21, 9, 30, 0, 123_000, UTC)


def test_every_fresh_id_is_different_and_has_our_prefix() -> None:
    made = {fresh_id() for _ in range(1000)}

    assert len(made) == 1000
    assert all(len(name) == 35 and name.startswith("hm_") for name in made)
