"""Finding the ID, event type and ordering key of a delivery, in bodies and headers of any form."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from multidict import CIMultiDict

from hookmill.config.identity import (
    Identity,
    id_from_body,
    identify_by,
    identify_callback,
    identify_marble,
    identify_qstash,
    ordered_by,
)
from hookmill.message import Message
from hookmill.signatures import Refused
from hookmill.signatures.presets import PRESETS
from tests.support import message

LONGEST = "n" * 255
TOO_LONG = "n" * 256
DEEP = b"[" * 100_000 + b"]" * 100_000

NO_HEADERS = CIMultiDict[str]()
QSTASH_ID = CIMultiDict({"upstash-message-id": "msg_1"})


def type_of(identity: Identity | Refused) -> str:
    assert isinstance(identity, Identity), identity
    return identity.type


def id_of(identity: Identity | Refused) -> str | None:
    assert isinstance(identity, Identity), identity
    return identity.id


# --- the event type ---

SHAPELESS = [
    b"",
    b" ",
    b"{",
    b"}",
    b"null",
    b"true",
    b"5",
    b'"post.published"',
    b"[]",
    b'[{"type":"a"}]',
    b"{}",
    b'{"hello":"world"}',
    b"plain text",
    b"type=a&event=b",
    b"<type>a</type>",
    b"\x00\xff\xfe",
    b"\xef\xbb\xbf" + b'{"type":"a"}',
    '{"type":"a"}'.encode("utf-16"),
    b'{"type":"a"}{"type":"b"}',
    b'{"type":"a",}',
    b"{'type':'a'}",
    b'{"Type":"a"}',
    b'{"data":{"type":"a","event":"a"}}',
    b'{"type":null}',
    b'{"type":5}',
    b'{"type":true}',
    b'{"type":["a"]}',
    b'{"type":{"name":"a"}}',
    b'{"type":""}',
    b'{"type":"' + TOO_LONG.encode() + b'"}',
    b'{"type":"\\ud800"}',
    b'{"type":"\\udc00\\ud800"}',
    b'{"type":"\xff"}',
    b'{"type":"\xed\xa0\x80"}',
    b'{"type":"a',
    b'{"type":',
    b"[" * 100_000,
    b'{"type":' * 100_000,
    DEEP,
    b'{"x":' + DEEP + b',"type":"a"}',
]


@pytest.mark.parametrize("identify", [identify_qstash, identify_marble])
@pytest.mark.parametrize("body", SHAPELESS, ids=lambda body: ascii(body)[:40])
def test_a_body_of_any_form_is_accepted_with_an_empty_type(identify: Any, body: bytes) -> None:
    assert identify(NO_HEADERS, body) == Identity(None, "")


@pytest.mark.parametrize(
    ("body", "qstash", "marble"),
    [
        (b'{"type":"a"}', "a", "a"),
        (b'{"event":"b"}', "b", "b"),
        # Both are there: each sender has the one it goes by.
        (b'{"type":"a","event":"b"}', "b", "a"),
        (b'{"event":"b","type":"a"}', "b", "a"),
        # One of the two says nothing, so the other does.
        (b'{"type":"a","event":""}', "a", "a"),
        (b'{"type":"","event":"b"}', "b", "b"),
        (b'{"type":"a","event":5}', "a", "a"),
        (b'{"type":{},"event":"b"}', "b", "b"),
        (b'{"type":"a","event":null}', "a", "a"),
        (b'{"type":"\xff","event":"b"}', "b", "b"),
        (json.dumps({"type": TOO_LONG, "event": "b"}).encode(), "b", "b"),
        (json.dumps({"type": LONGEST}).encode(), LONGEST, LONGEST),
        (json.dumps({"type": "é" * 255}).encode(), "é" * 255, "é" * 255),
        # Given twice, the last one counts, as it does for the event's decoder.
        (b'{"type":"a","type":"b"}', "b", "b"),
        (b'{"type":"a","type":5}', "", ""),
        # Whatever stands around it.
        (b' {\n"type" : "a" }\n', "a", "a"),
        (b'{"ty\\u0070e":"\\u0061"}', "a", "a"),
        (b'{"type":"\\ud83d\\ude00"}', "😀", "😀"),
        (b'{"type":" a "}', " a ", " a "),
        (b'{"type":"a\\u0000\\n"}', "a\0\n", "a\0\n"),
        (b'{"x":"\xff","type":"a","y":{"type":"b"}}', "a", "a"),
    ],
    ids=lambda value: ascii(value)[:40],
)
def test_the_type_is_the_event_or_type_field(body: bytes, qstash: str, marble: str) -> None:
    assert type_of(identify_qstash(NO_HEADERS, body)) == qstash
    assert type_of(identify_marble(NO_HEADERS, body)) == marble


# --- the ID in QStash's header ---


@pytest.mark.parametrize("identify", [identify_qstash, identify_marble])
@pytest.mark.parametrize(
    "value", ["msg_26hZCxZCuWyyTWPmSVBrNB882AB", "m", "a b", "é".encode().hex(), LONGEST, "{}:/="]
)
def test_the_header_gives_the_id(identify: Any, value: str) -> None:
    headers = CIMultiDict({"UPSTASH-MESSAGE-ID": value})
    assert id_of(identify(headers, b'{"event":"a"}')) == value


@pytest.mark.parametrize("identify", [identify_qstash, identify_marble])
@pytest.mark.parametrize(
    "value",
    [
        "",
        TOO_LONG,
        "msg_é",
        "msg_\udcff",
        "msg_lone_\ud800",
        "msg_\n1",
        "msg_\r\nX: y",
        "msg_\t1",
        "msg_\x001",
        "msg_\x7f",
    ],
    ids=lambda value: ascii(value)[:40],
)
def test_a_header_that_is_no_id_is_refused(identify: Any, value: str) -> None:
    refused = identify(CIMultiDict({"Upstash-Message-Id": value}), b"{}")
    assert isinstance(refused, Refused)
    assert refused.code in {"message_id_malformed", "header_malformed"}
    assert "msg_" not in refused.detail
    assert "Upstash-Message-Id" in refused.detail


@pytest.mark.parametrize("identify", [identify_qstash, identify_marble])
@pytest.mark.parametrize("second", ["msg_1", "msg_2", ""])
def test_a_second_id_is_refused(identify: Any, second: str) -> None:
    headers = CIMultiDict([("Upstash-Message-Id", "msg_1"), ("upstash-message-id", second)])
    assert identify(headers, b"{}") == Refused(
        "header_repeated", "there are 2 Upstash-Message-Id headers, one is allowed"
    )


def test_qstash_goes_by_its_header_alone() -> None:
    body = b'{"id":"evt_1","type":"post.published"}'
    assert identify_qstash(QSTASH_ID, body) == Identity("msg_1", "post.published")
    assert identify_qstash(NO_HEADERS, body) == Identity(None, "post.published")


# --- the ID in Marble's body ---

FOREIGN = CIMultiDict(
    [
        ("x-marble-event-id", "evt_forged"),
        ("x-marble-delivery-id", "whd_forged"),
        ("x-marble-event", "post.deleted"),
        ("Upstash-Message-Id", "msg_forged"),
    ]
)
GARBAGE = CIMultiDict([("Upstash-Message-Id", "\udcff"), ("Upstash-Message-Id", "")])


@pytest.mark.parametrize("headers", [NO_HEADERS, FOREIGN, GARBAGE])
def test_the_signed_id_wins_over_whatever_the_headers_say(headers: CIMultiDict[str]) -> None:
    body = b'{"id":"evt_1","type":"post.published","data":{"id":"post_1"}}'
    assert identify_marble(headers, body) == Identity("evt_1", "post.published", id_is_signed=True)


def test_the_older_generation_has_its_id_from_qstash() -> None:
    body = b'{"event":"post.published","data":{"id":"post_1","slug":"s"}}'
    headers = CIMultiDict(
        {"Upstash-Message-Id": "msg_1", "x-marble-event-id": "evt_forged"},
    )
    assert identify_marble(headers, body) == Identity("msg_1", "post.published")
    # No ID, no dedup: two genuine updates of one post have the very same bytes.
    assert identify_marble(NO_HEADERS, body) == Identity(None, "post.published")


@pytest.mark.parametrize(
    "signed_id",
    ['""', "null", "5", "[]", '{"a":"evt_1"}', f'"{TOO_LONG}"', "true"],
    ids=lambda value: value[:20],
)
def test_a_signed_id_that_is_none_leaves_it_to_the_header(signed_id: str) -> None:
    body = f'{{"id":{signed_id},"type":"post.published"}}'.encode()
    assert identify_marble(QSTASH_ID, body) == Identity("msg_1", "post.published")
    assert identify_marble(NO_HEADERS, body) == Identity(None, "post.published")


@pytest.mark.parametrize("body", [b'{"id":"post_1"}', b'{"id":"post_1","event":"post.updated"}'])
def test_an_id_without_the_envelopes_type_is_not_the_events_id(body: bytes) -> None:
    assert id_of(identify_marble(QSTASH_ID, body)) == "msg_1"
    assert id_of(identify_marble(NO_HEADERS, body)) is None


def test_half_a_surrogate_pair_anywhere_makes_a_body_unreadable() -> None:
    # As it does for the event's decoder, which is to say so in the dead letter.
    body = b'{"id":"evt_1","type":"post.published","data":{"title":"\\ud83d"}}'
    assert identify_marble(QSTASH_ID, body) == Identity("msg_1", "")
    assert identify_qstash(QSTASH_ID, body) == Identity("msg_1", "")


def test_a_signed_id_may_hold_any_text() -> None:
    body = '{"id":"evt_é\\u0000\\n😀","type":"a"}'.encode()
    assert id_of(identify_marble(NO_HEADERS, body)) == "evt_é\0\n😀"


# --- the ID that follows from the body ---

PLAIN = b'{"event":"post.updated","data":{"id":"post_1"}}'


def named_after(body: bytes, event_type: str = "") -> Identity:
    digest = hashlib.blake2b(body, digest_size=16).hexdigest()
    return Identity(f"hm_{digest}", event_type, id_is_signed=True)


@pytest.mark.parametrize("identify", [identify_qstash, identify_marble])
@pytest.mark.parametrize(
    "headers",
    [NO_HEADERS, QSTASH_ID, FOREIGN, GARBAGE, CIMultiDict({"Upstash-Message-Id": TOO_LONG})],
)
def test_no_header_changes_an_id_that_follows_from_the_body(
    identify: Any, headers: CIMultiDict[str]
) -> None:
    assert id_from_body(identify)(headers, PLAIN) == named_after(PLAIN, "post.updated")


def test_the_id_that_follows_from_a_body_is_this_in_every_release() -> None:
    # With another one, duplicates of handled messages would run again.
    found = id_from_body(identify_qstash)(NO_HEADERS, b"{}")
    assert found == Identity(
        "hm_2afb9b83f9314e5d029766197f539792", "", id_is_signed=True
    )  # b2sum -l 128


@pytest.mark.parametrize(
    "other",
    [PLAIN + b" ", PLAIN.replace(b"post_1", b"post_2"), PLAIN.replace(b'"data"', b' "data"')],
)
def test_bodies_of_other_bytes_are_other_messages(other: bytes) -> None:
    identify = id_from_body(identify_qstash)
    assert id_of(identify(QSTASH_ID, other)) != id_of(identify(QSTASH_ID, PLAIN))


def test_an_id_that_was_signed_stays_the_messages_id() -> None:
    # Marble builds a body again for each attempt: the bytes may change, the event's ID does not.
    body = b'{"id":"evt_1","type":"post.published"}'
    found = id_from_body(identify_marble)(FOREIGN, body)
    assert found == Identity("evt_1", "post.published", id_is_signed=True)
    # For QStash an `id` in the body is the application's own affair.
    assert id_from_body(identify_qstash)(FOREIGN, body) == named_after(body, "post.published")


@pytest.mark.parametrize("identify", [identify_qstash, identify_marble])
@pytest.mark.parametrize("headers", [NO_HEADERS, QSTASH_ID])
def test_an_id_from_a_header_is_not_signed(identify: Any, headers: CIMultiDict[str]) -> None:
    found = identify(headers, PLAIN)
    assert isinstance(found, Identity)
    assert not found.id_is_signed


# --- the ordering key ---

DIGEST_OF_256 = hashlib.blake2b(TOO_LONG.encode(), digest_size=16).hexdigest()


@pytest.mark.parametrize(
    ("path", "body", "key"),
    [
        ("id", b'{"id":"a"}', "a"),
        ("data.id", b'{"data":{"id":"post_1"}}', "post_1"),
        ("a.b.c.d", b'{"a":{"b":{"c":{"d":"x"}}}}', "x"),
        # Both of Marble's generations.
        ("data.id", b'{"event":"post.updated","data":{"id":"post_1","slug":"s"}}', "post_1"),
        ("data.id", b'{"id":"evt_1","type":"post.updated","data":{"id":"post_1"}}', "post_1"),
        # An integer is its text, however large.
        ("id", b'{"id":5}', "5"),
        ("id", b'{"id": 5 }', "5"),
        ("id", b'{"id":"5"}', "5"),
        ("id", b'{"id":0}', "0"),
        ("id", b'{"id":-0}', "0"),
        ("id", b'{"id":-17}', "-17"),
        ("id", b'{"id":18446744073709551616}', "18446744073709551616"),
        ("id", b'{"id":' + b"9" * 255 + b"}", "9" * 255),
        # A name that is too long is replaced by a hash, never cut off.
        ("id", json.dumps({"id": LONGEST}).encode(), LONGEST),
        ("id", json.dumps({"id": "é" * 255}).encode(), "é" * 255),
        ("id", json.dumps({"id": TOO_LONG}).encode(), DIGEST_OF_256),
        (
            "id",
            b'{"id":' + b"9" * 100_000 + b"}",
            hashlib.blake2b(b"9" * 100_000, digest_size=16).hexdigest(),
        ),
        # Whatever stands around it, and however it is spelled.
        ("data.id", b' {\n"x":[{"id":1}], "data" : {"id" : "a" , "data":{"id":"b"}} }\n', "a"),
        ("data.id", b'{"d\\u0061ta":{"\\u0069d":"\\u0061"}}', "a"),
        ("größe.nr", '{"größe":{"nr":"ä"}}'.encode(), "ä"),
        ("order id", b'{"order id":"a"}', "a"),
        ("id", b'{"id":"\\ud83d\\ude00"}', "😀"),
        ("id", b'{"id":" a\\u0000\\n"}', " a\0\n"),
        ("id", b'{"x":"\xff","id":"a"}', "a"),
        # Given twice, the last one counts, as it does for the event's decoder.
        ("id", b'{"id":"a","id":"b"}', "b"),
        ("data.id", b'{"data":5,"data":{"id":"a"}}', "a"),
        ("data.id", b'{"data":{"id":"a"},"data":5}', ""),
    ],
    ids=lambda value: ascii(value)[:40],
)
def test_the_key_is_the_text_or_integer_at_the_path(path: str, body: bytes, key: str) -> None:
    assert ordered_by(path)(body) == key


@pytest.mark.parametrize(
    "value",
    [
        '""', "null", "true", "false", "{}", "[]", '["a"]', '{"id":"a"}', "1.0", "1e3", "1E400",
        "-0.0", "0.5", '"\\ud800"', '"\\udc00\\ud800"',
    ],
)  # fmt: skip
def test_any_other_value_is_no_key(value: str) -> None:
    assert ordered_by("id")(f'{{"id":{value}}}'.encode()) == ""


@pytest.mark.parametrize(
    "body",
    [
        *SHAPELESS,
        b'{"data":null}',
        b'{"data":"id"}',
        b'{"data":["id"]}',
        b'{"data":[{"id":"a"}]}',
        b'{"data":{"ID":"a"}}',
        b'{"data.id":"a"}',
        b'{"id":"a"}',
        b'{"data":{"id":"a"}',
        b'{"data":{"id":"a"}}x',
        b'{"data":{"id":"\xff"}}',
        b'{"data":{"id":"\xed\xa0\x80"}}',
        b'{"data":{"id":01}}',
        b'{"data":{"id":NaN}}',
        b'{"data":' * 100_000,
        b'{"data":{"id":' + DEEP + b"}}",
        b'{"data":{"x":' + DEEP + b',"id":"a"}}',
    ],
    ids=lambda body: ascii(body)[:40],
)
def test_a_body_without_the_value_has_no_key(body: bytes) -> None:
    assert ordered_by("data.id")(body) == ""


def test_long_values_that_only_begin_alike_are_different_keys() -> None:
    values = [LONGEST, TOO_LONG, TOO_LONG + "a", TOO_LONG + "b", "n" * 10_000]
    keys = [ordered_by("id")(json.dumps({"id": value}).encode()) for value in values]
    assert len(set(keys)) == len(values)
    assert max(map(len, keys)) == len(LONGEST)


# --- whatever comes ---

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
BODIES = st.binary() | st.dictionaries(
    st.sampled_from(["id", "type", "event", "data"]), JSON_VALUES
).map(lambda fields: json.dumps(fields).encode())
HEADERS = st.lists(
    st.tuples(
        st.sampled_from(["Upstash-Message-Id", "x-marble-event-id"]),
        st.binary().map(lambda raw: raw.decode("utf-8", "surrogateescape")) | st.text(),
    ),
    max_size=3,
).map(CIMultiDict)


@given(identify=st.sampled_from([identify_qstash, identify_marble]), headers=HEADERS, body=BODIES)
@hypothesis_settings(deadline=None)
def test_any_headers_and_body_give_names_that_can_be_stored_or_a_refusal(
    identify: Any, headers: CIMultiDict[str], body: bytes
) -> None:
    found = identify(headers, body)
    if isinstance(found, Refused):
        found.detail.encode()
        return
    assert len(found.type.encode()) <= 4 * 255
    assert found.id is None or 0 < len(found.id) <= 255
    (found.id or "").encode()
    assert found.id is not None or not found.id_is_signed


@given(identify=st.sampled_from([identify_qstash, identify_marble]), headers=HEADERS, body=BODIES)
@hypothesis_settings(deadline=None)
def test_where_ids_follow_from_bodies_any_headers_give_the_same_signed_id(
    identify: Any, headers: CIMultiDict[str], body: bytes
) -> None:
    found = id_from_body(identify)(headers, body)
    assert found == id_from_body(identify)(NO_HEADERS, body)
    assert isinstance(found, Identity)
    assert found.id_is_signed
    assert found.id is not None
    assert 0 < len(found.id.encode()) <= 4 * 255


PARTS = st.sampled_from(["id", "data", "type", "größe", "$"])
NESTED = st.recursive(
    JSON_VALUES | st.integers(-(10**400), 10**400) | st.text(min_size=250),
    lambda inner: st.dictionaries(PARTS, inner, min_size=1, max_size=3),
    max_leaves=6,
)


@given(
    path=st.lists(PARTS, min_size=1, max_size=3).map(".".join),
    body=BODIES
    | NESTED.map(lambda value: json.dumps(value).encode())
    | NESTED.map(lambda value: json.dumps(value, ensure_ascii=False).encode(errors="replace")),
    cut=st.none() | st.integers(0, 100),
)
@hypothesis_settings(deadline=None, max_examples=500)
def test_any_body_gives_a_key_that_can_be_stored_or_none(
    path: str, body: bytes, cut: int | None
) -> None:
    key = ordered_by(path)(body[:cut])
    assert len(key) <= 255
    assert Message.from_fields(message(body, key=key).to_fields()).key == key


@given(value=st.text(st.characters(exclude_categories=["Cs"]), min_size=1) | st.integers())
@hypothesis_settings(deadline=None)
def test_the_same_value_is_the_same_key_however_the_body_is_written(value: str | int) -> None:
    key_of = ordered_by("data.id")
    spellings = [
        json.dumps({"data": {"id": value}}).encode(),
        json.dumps({"a": 1, "data": {"b": [], "id": value}}, ensure_ascii=False, indent=2).encode(),
    ]
    text = str(value)
    key = text if len(text) <= 255 else hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
    assert [key_of(body) for body in spellings] == [key, key]


# --- other senders ---


@pytest.mark.parametrize(
    ("preset", "headers", "body", "expected"),
    [
        (
            "github",
            {"X-GitHub-Delivery": "d-1", "X-GitHub-Event": "issues"},
            b'{"action":"opened"}',
            Identity("d-1", "issues.opened"),
        ),
        (
            "github",
            {"X-GitHub-Delivery": "d-1", "X-GitHub-Event": "push"},
            b"{}",
            Identity("d-1", "push"),
        ),
        ("github", {}, b"[]", Identity(None, "")),
        (
            "stripe",
            {},
            b'{"id":"evt_1","type":"charge.paid"}',
            Identity("evt_1", "charge.paid", id_is_signed=True),
        ),
        ("stripe", {}, b"not JSON", Identity(None, "")),
        (
            "standard-webhooks",
            {"webhook-id": "msg_1"},
            b'{"type":"a.b"}',
            Identity("msg_1", "a.b", id_is_signed=True),
        ),
        (
            "hubspot",
            {},
            b'[{"eventId":7,"subscriptionType":"contact.creation"}]',
            named_after(
                b'[{"eventId":7,"subscriptionType":"contact.creation"}]', "contact.creation"
            ),
        ),
        (
            "calendly",
            {},
            b'{"event":"e","created_at":"t","payload":{"uri":"u"}}',
            Identity("u@t", "e", id_is_signed=True),
        ),
        ("calendly", {}, b'{"event":"e","created_at":"t"}', Identity(None, "e")),
        ("slack", {}, b"command=%2Fdo&trigger_id=5.7", Identity("5.7", "/do", id_is_signed=True)),
        ("zoom", {}, b'{"event":"meeting.ended"}', Identity(None, "meeting.ended")),
        ("linear", {"Linear-Delivery": "l"}, b'{"type":"Issue"}', Identity("l", "Issue")),
    ],
)
def test_names_stand_where_the_senders_put_them(
    preset: str, headers: dict[str, str], body: bytes, expected: Identity
) -> None:
    identify = identify_by(PRESETS[preset].spec)
    assert identify(CIMultiDict(headers), body) == expected


def test_a_name_that_is_doubled_or_not_a_text_is_refused_and_a_long_one_is_none() -> None:
    identify = identify_by(PRESETS["github"].spec)

    def found(*headers: tuple[str, str]) -> str:
        result = identify(CIMultiDict(headers), b"{}")
        return result.code if isinstance(result, Refused) else f"{result.id} {result.type}"

    assert found(("X-GitHub-Delivery", "a"), ("x-github-delivery", "b")) == "header_repeated"
    assert found(("X-GitHub-Event", "a"), ("x-github-event", "b")) == "header_repeated"
    assert found(("X-GitHub-Delivery", "a\tb")) == "header_malformed"
    assert found(("X-GitHub-Delivery", "x" * 256), ("X-GitHub-Event", "push")) == "None push"


# --- QStash's callbacks ---

CALLBACK = b'{"status":500,"retried":1,"sourceMessageId":"msg_0","sourceBody":"e30="}'


@pytest.mark.parametrize(
    ("body", "event_type"),
    [
        (CALLBACK, "delivery.attempt_failed"),
        (CALLBACK.replace(b"500", b"201"), "delivery.succeeded"),
        (CALLBACK.replace(b'"status"', b'"dlqId":"1-0","status"'), "delivery.failed"),
        # What a body calls itself counts for nothing: QStash names no callback.
        (b'{"type":"delivery.failed","event":"delivery.failed"}', ""),
        (b"\xff", ""),
        (b"", ""),
    ],
    ids=lambda value: ascii(value)[:30],
)
def test_a_callbacks_type_follows_from_what_it_says(body: bytes, event_type: str) -> None:
    assert identify_callback(QSTASH_ID, body) == Identity("msg_1", event_type)
    assert identify_callback(NO_HEADERS, body) == Identity(None, event_type)
    refused = identify_callback(CIMultiDict({"Upstash-Message-Id": "msg_\n"}), body)
    assert isinstance(refused, Refused)
