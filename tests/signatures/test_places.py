"""Where something stands: headers, JSON paths, forms; and nothing that is there raises."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from multidict import CIMultiDict

from hookmill.signatures import Refused, Signed
from hookmill.signatures.forms import MAX_FIELDS, form_fields
from hookmill.signatures.places import Found, finder, texts_at, value_at

BODY = json.dumps(
    {
        "id": "evt_1",
        "number": 7,
        "huge": 10**40,
        "zero": -0,
        "text": "\u00fcber \u2603",
        "empty": "",
        "deep": {"id": "inner", "list": [{"id": "first"}, {"id": "second"}]},
        "0": "a key, no position",
        "none": None,
        "yes": True,
        "half": 1.5,
    }
).encode()


def found(place: str, body: bytes = BODY, headers: dict[str, str] | None = None) -> Found:
    return finder(place)(Signed(CIMultiDict(headers or {}), body))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("id", b"evt_1"),
        ("number", b"7"),
        ("huge", str(10**40).encode()),
        ("zero", b"0"),
        ("text", "\u00fcber \u2603".encode()),
        ("empty", b""),
        ("deep.id", b"inner"),
        ("deep.list.1.id", b"second"),
        ("0", b"a key, no position"),
    ],
)
def test_a_text_or_an_integer_is_found_in_json(path: str, value: bytes) -> None:
    assert found(f"json:{path}") == value


@pytest.mark.parametrize(
    "path",
    [
        *("missing", "id.deeper", "deep", "deep.list", "none", "yes", "half", "number.0"),
        *("deep.list.2.id", "deep.list.-1.id", "deep.list.x", "deep.0", "1"),
    ],
)
def test_what_is_not_there_or_neither_text_nor_integer_is_missing(path: str) -> None:
    verdict = found(f"json:{path}")
    assert isinstance(verdict, Refused)
    assert verdict.code == "field_missing"


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (b'[{"id":"first"},{"id":"second"}]', b"second"),
        (b'  [ {"id":"first"} , {"id" : "second"} ] ', b"second"),
        (b'{"1":{"id":"key"}}', b"key"),
        (b'[{"id":"first"}]', None),
        (b"[1,2]", None),
        (b"[", None),
    ],
)
def test_a_number_is_a_position_in_an_array_and_a_key_of_an_object(
    body: bytes, value: bytes | None
) -> None:
    verdict = found("json:1.id", body)
    assert verdict == value if value else isinstance(verdict, Refused)


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b" ", b"null", b"5", b'"id"', b"{", b'{"id"', b'{"id":}', b'{"id":"x"', b"\xff"),
        *(b'{"id":"\xff"}', b'{"id":"\\ud800"}', b'{"id":"\\u"}', b'{"id":"a\nb"}', b"id=evt_1"),
        *(b"[" * 100_000, b'{"id":' * 100_000, b'{"id":' + b"[" * 100_000, b'\xef\xbb\xbf{"id":1}'),
        *(b'{"id":01}', b'{"id":--1}', b'{"id":1e5}', b'{"id":NaN}', b'{"id":1}x'),
    ],
    ids=lambda body: ascii(body)[:30],
)
def test_a_body_that_is_not_json_holds_nothing(body: bytes) -> None:
    assert isinstance(found("json:id", body), Refused)


def test_a_key_given_twice_counts_as_it_is_given_last() -> None:
    # As the application's own parser reads it.
    body = b'{"id":"first","id":"last"}'
    assert found("json:id", body) == json.loads(body)["id"].encode()


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (b"a=1&id=evt_1", b"evt_1"),
        (b"id=evt+1%2B", b"evt 1+"),
        (b"id=", b""),
        (b"id", b""),
        (b"id=%FF%fe", b"\xff\xfe"),
        (b"id=\xff", b"\xff"),
        (b"id=%zz", b"%zz"),
        (b"id=1&id=1", None),
        (b"ID=1", None),
        (b"", None),
        (b"id=1" + b"&a" * MAX_FIELDS, None),
    ],
    ids=lambda value: ascii(value)[:30],
)
def test_a_field_is_found_in_a_form_where_it_stands_once(body: bytes, value: bytes | None) -> None:
    verdict = found("form:id", body)
    assert verdict == value if value is not None else isinstance(verdict, Refused)


def test_a_header_is_found_as_its_bytes() -> None:
    assert found("header:X-Id", headers={"x-id": "a\udcff"}) == b"a\xff"
    assert isinstance(found("header:X-Id"), Refused)


@pytest.mark.parametrize(
    "place",
    [
        *("", "header", "header:", "header:X Id", "header:X:Id", "header:X\u00fc", "header: X"),
        *("json:", "json:.", "json:a.", "json:.a", "json:a..b", "form:", "item:t", "body"),
        *("json:1000", "json:a.1000.b", "json:" + ".".join("a" * 33)),
    ],
)  # fmt: skip
def test_what_is_written_otherwise_is_no_place(place: str) -> None:
    with pytest.raises(ValueError, match="is no place: write header:NAME"):
        finder(place)


finite = st.floats(allow_nan=False, allow_infinity=False)  # JSON has no other
anything = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), finite, st.text()),
    lambda inner: st.one_of(st.lists(inner), st.dictionaries(st.sampled_from("ab01"), inner)),
)


@given(value=anything, path=st.lists(st.sampled_from("ab01"), min_size=1, max_size=4))
def test_any_json_gives_what_the_standard_parser_finds_there(value: Any, path: list[str]) -> None:
    expected = value
    for step in path:
        if isinstance(expected, dict):
            expected = expected.get(step)
        elif isinstance(expected, list) and step.isdecimal() and int(step) < len(expected):
            expected = expected[int(step)]
        else:
            expected = None
    is_one = isinstance(expected, str | int) and not isinstance(expected, bool)
    body = json.dumps(value).encode()
    assert value_at(".".join(path))(body) == (str(expected) if is_one else None)


# --- several texts in one pass ---


@pytest.mark.parametrize("paths", [["a", "b"], ["s.a", "s.b"], ["s.s.b", "s.s.a"], ["0.a"]])
def test_texts_of_one_object_are_read_in_one_pass(paths: list[str]) -> None:
    inner: Any = {"a": "\u00fcber \u2603", "b": "", "more": [1]}
    body = {**inner, "0": inner, "s": {**inner, "s": inner}}
    expected = tuple(inner[path[-1]].encode() for path in paths)
    assert texts_at(paths)(json.dumps(body).encode()) == expected


@pytest.mark.parametrize("paths", [[], ["a", "s.b"], ["s.a", "s.s.a"], ["s.a", "t.a"]])
def test_texts_of_several_objects_are_not_read_in_one_pass(paths: list[str]) -> None:
    inner = {"a": "x", "b": "x", "s": {"a": "x"}}
    body = {"a": "x", "s": inner, "t": inner}
    assert texts_at(paths)(json.dumps(body).encode()) == ()


@pytest.mark.parametrize(
    "body", [b"[" * 100_000, b'{"s":' * 100_000, b'{"s":{"a":"x","b":"y","c":' + b"[" * 100_000]
)
def test_no_texts_are_read_of_what_is_too_deep(body: bytes) -> None:
    assert texts_at(["s.a", "s.b"])(body) == ()


literals = st.sampled_from(
    [
        *(
            b'"x"',
            b'""',
            b'"1779460951"',
            b'"\xc3\xbc"',
            b'"\\u00fc"',
            b'"\\ud83d\\ude00"',
            b'"\\u0000"',
        ),
        *(b"7", b"-0", b"1e5", b"0.5", b"null", b"true", b"[]", b"{}", b'["x"]'),
        *(b'"\xff"', b'"\\ud800"', b'"\\x"', b'"', b"01", b"", b'"x" "y"', b"\x00"),
    ]
)
keys = st.sampled_from([b'"a"', b'"b"', b'"s"', b'"\\u0061"', b'"0"', b'"c"', b'"A"', b"a"])
"""JSON as senders write it, JSON with doubled keys, and texts that are not JSON."""


def objects(values: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    members = st.tuples(keys, values).map(b":".join)
    return st.lists(members, max_size=5).map(lambda some: b"{" + b" ,".join(some) + b"}")


written = st.recursive(
    literals,
    lambda inner: objects(inner) | st.lists(inner).map(lambda some: b"[" + b",".join(some) + b"]"),
)


@st.composite
def bodies_with_texts(draw: st.DrawFn) -> bytes:
    """JSON in which texts stand under `a` and `b`, at some depth, among what may spoil them."""
    texts = st.sampled_from([b'"x"', b'"y"', b'"\\u00fc"'])
    members = [b'"a":' + draw(texts), b'"b" : ' + draw(texts)]
    spoiling = st.lists(st.tuples(keys, texts | written).map(b":".join), max_size=2)
    body = b"{" + b",".join(draw(st.permutations(members + draw(spoiling)))) + b"}"
    for _ in range(draw(st.integers(0, 2))):
        around = [b'"s":' + body, *draw(spoiling)]
        body = b"{" + b", ".join(draw(st.permutations(around))) + b"}"
    return body + draw(st.sampled_from([b"", b"", b" ", b"x"]))


@given(
    body=bodies_with_texts() | written,
    above=st.sampled_from(["", "s.", "s.s.", "0."]),
    names=st.sampled_from(["a", "ab", "ba", "abs"]),
)
@settings(max_examples=500)
def test_in_one_pass_is_found_what_is_found_one_by_one(body: bytes, above: str, names: str) -> None:
    paths = [above + name for name in names]
    if together := texts_at(paths)(body):
        assert together == tuple(found(f"json:{path}", body) for path in paths)


@given(
    texts=st.dictionaries(st.sampled_from("abc"), st.text(), min_size=1), depth=st.integers(0, 3)
)
def test_all_texts_of_an_object_are_found_in_one_pass(texts: dict[str, str], depth: int) -> None:
    value: Any = {**texts, "more": [texts]}
    for _ in range(depth):
        value = {"s": value, "a": 1}
    paths = ["s." * depth + name for name in texts]
    expected = tuple(text.encode() for text in texts.values())
    assert texts_at(paths)(json.dumps(value).encode()) == expected


@given(body=st.binary())
def test_any_bytes_end_in_a_value_or_none(body: bytes) -> None:
    for place in ("json:a", "json:0", "json:a.0.b", "form:a"):
        assert isinstance(found(place, body), bytes | Refused)
    assert isinstance(form_fields(body), list)
