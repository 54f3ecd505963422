"""Finding the ordering key of a delivery in its body."""

from __future__ import annotations

import hashlib
import json

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from hookmill.config.identity import ordered_by
from hookmill.message import Message
from tests.config.deliveries import BODIES, DEEP, JSON_VALUES, LONGEST, SHAPELESS, TOO_LONG
from tests.support import message

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
