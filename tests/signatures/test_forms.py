"""Forms: the fields that are found, and the bounds that hold before anything is split."""

from __future__ import annotations

from urllib.parse import parse_qsl, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hookmill.signatures import Refused
from hookmill.signatures.forms import MAX_FIELDS, form_fields, form_reader
from hookmill.signatures.scheme import MAX_VALUE

form = st.lists(
    st.one_of(
        st.sampled_from([b"a", b"=", b"&", b"+", b"%", b"%41", b"%ff", b"%e2%82%ac"]), st.binary()
    ),
    max_size=20,
).map(b"".join)


@given(body=form)
def test_any_form_gives_the_fields_that_the_standard_parser_finds(body: bytes) -> None:
    text = body.decode("utf-8", "surrogateescape")
    assert form_fields(body) == parse_qsl(text, keep_blank_values=True, errors="surrogateescape")


@given(body=form, name=st.sampled_from(["a", "A", "+", " ", "€", "aa"]))
def test_a_field_is_read_as_the_standard_parser_reads_it(body: bytes, name: str) -> None:
    text = body.decode("utf-8", "surrogateescape")
    pairs = parse_qsl(text, keep_blank_values=True, errors="surrogateescape")
    fields = [(one.encode("utf-8", "surrogateescape"), value) for one, value in pairs]
    values = [value for one, value in fields if one == name.encode()]
    found = form_reader([name])(body)
    if len(values) == 1:
        assert found == (values[0].encode("utf-8", "surrogateescape"),)
    else:
        assert isinstance(found, Refused)


@given(st.dictionaries(st.text(min_size=1), st.text(), min_size=1, max_size=5))
def test_several_fields_are_read_at_once_in_the_order_asked_for(fields: dict[str, str]) -> None:
    body = "&".join(f"{quote_plus(a)}={quote_plus(b)}" for a, b in fields.items()).encode()
    names = sorted(fields)
    assert form_reader(names)(body) == tuple(fields[name].encode() for name in names)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"a=1" + b"&b" * (MAX_FIELDS - 1), "found"),
        (b"a=1" + b"&b" * MAX_FIELDS, "too_many_fields"),
        (b"a=1" + b"&" * MAX_FIELDS, "too_many_fields"),
        (b"a=" + b"x" * MAX_VALUE, "found"),
        (b"a=" + b"x" * (MAX_VALUE + 1), "value_too_long"),
        (b"b=" + b"x" * (MAX_VALUE + 1) + b"&a=1", "found"),
        (b"x" * MAX_VALUE + b"&a=1", "found"),
        (b"a=1&%61=2", "field_missing"),
        (b"", "field_missing"),
    ],
    ids=lambda value: ascii(value)[:20],
)
def test_a_form_has_only_so_many_fields_and_a_value_so_many_bytes(body: bytes, code: str) -> None:
    found = form_reader(["a"])(body)
    assert (found.code if isinstance(found, Refused) else "found") == code
