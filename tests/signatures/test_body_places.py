"""The places in a body that a verdict depends on: found as one by one, and within bounds."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from hookmill.signatures import Refused, Signed
from hookmill.signatures.body_places import MAX_INNER, MAX_NAMES, reader_of
from hookmill.signatures.places import finder
from hookmill.signatures.scheme import MAX_VALUE, Texts

PAD = b" " * (5 * 1024 * 1024)
"""So much that a body is parsed only once."""


def found(body: bytes, *places: str) -> Texts | str:
    texts = reader_of(places)(body)
    return texts.code if isinstance(texts, Refused) else texts


def one_by_one(body: bytes, *places: str) -> Texts | str:
    values = [finder(place)(Signed(CIMultiDict(), body)) for place in places]
    refused = [one.code for one in values if isinstance(one, Refused)]
    return refused[0] if refused else tuple(one for one in values if isinstance(one, bytes))


BODY: Any = {
    "sig": "s\u00fc\n",
    "o": {"a": "x", "n": 7, "in": {"a": "deep"}},
    "l": [{"a": "first"}, ["second", {"a": 2**70}]],
    "0": "a key",
}


@pytest.mark.parametrize("pad", [b"", PAD], ids=["small", "large"])
@pytest.mark.parametrize(
    "places",
    [
        ["json:sig"],
        ["json:sig", "json:o.a", "json:o.in.a", "json:o.n"],
        ["json:l.0.a", "json:l.1.0", "json:l.1.1.a", "json:0"],
        ["json:o.in.a", "json:missing"],
        ["json:o", "json:o.a"],
        ["json:sig.a"],
        ["json:l.2"],
        ["json:l.a"],
        ["json:sig", "form:x"],
    ],
    ids=" ".join,
)
def test_several_places_are_found_as_one_by_one(places: list[str], pad: bytes) -> None:
    body = json.dumps(BODY).encode() + pad
    assert found(body, *places) == one_by_one(body, *places)


anything = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text()),
    lambda inner: st.one_of(st.lists(inner), st.dictionaries(st.sampled_from("ab01"), inner)),
)
paths = st.lists(
    st.lists(st.sampled_from("ab01"), min_size=1, max_size=3).map(".".join).map("json:".__add__),
    min_size=1,
    max_size=4,
    unique=True,
)


@given(value=anything, places=paths)
def test_in_a_large_body_is_found_what_is_found_one_by_one(value: Any, places: list[str]) -> None:
    body = json.dumps(value).encode()
    assert found(body + PAD, *places) == one_by_one(body, *places)


def test_json_and_a_form_can_share_a_body() -> None:
    body = b'{"a":"x&b=2&"}'
    assert found(body, "form:b", "json:a") == (b"2", b"x&b=2&")


@pytest.mark.parametrize(
    ("body", "place", "code"),
    [
        (b'{"a":"' + b"x" * (MAX_VALUE + 1) + b'"}' + PAD, "json:a", "value_too_long"),
        (b'{"a":"' + b"\\n" * MAX_VALUE + b'"}' + PAD, "json:a", "value_too_long"),
        (b'{"a":[' + b"1," * (MAX_INNER // 2) + b'"x"]}' + PAD, "json:a.0", "value_too_long"),
        (b"[" + b"1," * MAX_INNER + b'"x"]' + PAD, "json:0", (b"1",)),
        (b"{" + b'"b":1,' * MAX_NAMES + b'"a":1}' + PAD, "json:a", "too_many_fields"),
        (b"{" + b'"b":1,' * (MAX_NAMES - 1) + b'"a":1}' + PAD, "json:a", (b"1",)),
    ],
    ids=["text", "escapes", "inner array", "array", "too many names", "many names"],
)
def test_what_is_larger_than_any_sender_makes_it_is_refused(
    body: bytes, place: str, code: object
) -> None:
    assert found(body, place) == code
