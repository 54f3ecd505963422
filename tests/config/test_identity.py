"""Finding the ID and the event type of a delivery, in bodies and headers of any form."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from multidict import CIMultiDict

from hookmill.config.identity import Identity, id_from_body, identify_marble, identify_qstash
from hookmill.signatures import Refused
from tests.config.deliveries import (
    BODIES,
    LONGEST,
    NO_HEADERS,
    QSTASH_ID,
    SHAPELESS,
    TOO_LONG,
    named_after,
)


def type_of(identity: Identity | Refused) -> str:
    assert isinstance(identity, Identity), identity
    return identity.type


def id_of(identity: Identity | Refused) -> str | None:
    assert isinstance(identity, Identity), identity
    return identity.id


# --- the event type ---


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


# --- whatever comes ---

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
