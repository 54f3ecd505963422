"""What `redact` names is hidden, whatever the body is. What cannot be read is hidden whole."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hookmill.redaction import (
    EVERYTHING,
    LARGEST,
    MAX_FIELDS,
    fault_of_path,
    is_redacted,
    redacted,
    redacted_headers,
)

FORM = "application/x-www-form-urlencoded; charset=utf-8"
SECRET = "ada@example.com"


@pytest.mark.parametrize(
    ("paths", "body", "shown"),
    [
        ("email", '{"email": "x", "n": 1.10}', '{"email": "[redacted]", "n": 1.10}'),
        ("data.email", '{"data":{"email":{"a":[1]}}}', '{"data":{"email":"[redacted]"}}'),
        ("email", '{"email":1,"email":"x"}', '{"email":"[redacted]","email":"[redacted]"}'),
        ("email", '{"\\u0065mail":"x"}', '{"\\u0065mail":"[redacted]"}'),
        ("email", '{"EMail":"x"}', '{"EMail":"[redacted]"}'),
        ("straße", '{"STRASSE":"x"}', '{"STRASSE":"[redacted]"}'),
        ("a.email", '{"a":[[{"email":1}],{"b":2}]}', '{"a":[[{"email":"[redacted]"}],{"b":2}]}'),
        ("a.1.b", '{"a":[{"b":1},{"b":2}]}', '{"a":[{"b":1},{"b":"[redacted]"}]}'),
        ("a.1", '{"a":[1,[2],3]}', '{"a":[1,"[redacted]",3]}'),
        ("a.*.b", '{"a":{"x":{"b":1},"y":{"c":2}}}', '{"a":{"x":{"b":"[redacted]"},"y":{"c":2}}}'),
        ("*", '{"a":1,"b":null}', '{"a":"[redacted]","b":"[redacted]"}'),
        ("a.b", '{"a.b":"x","c.a.b":1}', '{"a.b":"[redacted]","c.a.b":1}'),
        ("a.b.c", '{"a":{"b.c":"x"}}', '{"a":{"b.c":"[redacted]"}}'),
        ("a", '{"x":"\\\\","a":"q\\"}"}', '{"x":"\\\\","a":"[redacted]"}'),
        ("a", "[]", "[]"),
        ("a", "{}", "{}"),
        ("a", "7", "7"),
    ],
)
def test_a_path_hides_its_value_and_leaves_all_else_as_it_came(
    paths: str, body: str, shown: str
) -> None:
    assert redacted(body.encode(), "", [paths]).decode() == shown


@pytest.mark.parametrize(
    "body",
    [f'{{"data":"{{\\"email\\":\\"{SECRET}\\"}}"}}', f'"{SECRET}"', f'{{"data":["{SECRET}"]}}'],
)
def test_a_text_that_a_path_leads_through_is_hidden_whole(body: str) -> None:
    assert SECRET not in redacted(body.encode(), "application/json", ["data.email"]).decode()


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (f'{{"email":"{SECRET}",}}'.encode(), "application/json"),
        (f'{{"email":"{SECRET}",}}'.encode(), FORM),
        (f'{{"email":"{SECRET}"}}{{}}'.encode(), "application/json"),
        (f'\ufeff{{"email":"{SECRET}"}}'.encode(), "application/json"),
        (f'{{"email":"{SECRET}"}}'.encode("utf-16"), "application/json"),
        (f"{{'email':'{SECRET}'}}".encode(), FORM),
        (f"<email>{SECRET}</email>".encode(), "text/xml"),
        (f"email={SECRET}".encode(), "text/plain"),
        (f"email=a;email={SECRET}".encode(), FORM),
        (b'{"email":"' + SECRET.encode() + b'\xff"}', "application/json"),
        (b'{"email":"' + SECRET.encode() + b" " * LARGEST + b'"}', "application/json"),
        (b"[" * 5000 + b'{"email":"' + SECRET.encode() + b'"}' + b"]" * 5000, "application/json"),
        (b"&".join([b"email=ada%40example.com"] * (MAX_FIELDS + 1)), FORM),
    ],
)
def test_a_body_that_cannot_be_read_for_certain_is_hidden_whole(
    body: bytes, content_type: str
) -> None:
    shown = redacted(body, content_type, ["email"])
    assert shown.startswith(f"[redacted: {len(body)} bytes, ".encode())
    assert b"example.com" not in shown


@pytest.mark.parametrize(
    "name",
    ["email", "EMAIL", "%65mail", "email%5Bhome%5D", "email[]", "[0]email", "0.email", "email.x"],
)
def test_a_field_of_a_form_is_hidden_however_its_name_is_written(name: str) -> None:
    body = f"a=1&{name}={quote_plus(SECRET)}&flag".encode()
    shown = redacted(body, FORM, ["email"]).decode()
    assert shown == f"a=1&{name}=[redacted]&flag"


def test_a_path_leads_into_the_fields_of_a_form_and_hides_one_that_holds_a_document() -> None:
    body = b"data[email]=x&data.email=y&data=z&data[name]=n&other[email]=o"
    assert redacted(body, FORM, ["data.email"]) == (
        b"data[email]=[redacted]&data.email=[redacted]&data=[redacted]&data[name]=n&other[email]=o"
    )


def test_json_is_not_taken_for_a_form_because_its_sender_says_so() -> None:
    assert redacted(b'{"email":"x"}', FORM, ["email"]) == b'{"email":"[redacted]"}'


def test_nothing_changes_where_nothing_is_hidden() -> None:
    for body in (b"\xff", b"", b'{"a":1}'):
        assert redacted(body, "", []) == body
        assert redacted(body, "", ["header:x"]) == body
    assert redacted(b"", "", ["a"]) == b""


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["a", "b", "A", "x.a", "é"]), inner, max_size=4)
    ),
    max_leaves=20,
)


def _hidden(value: Any, steps: tuple[str, ...]) -> Any:
    """The same for parsed JSON, written in the plainest way."""
    if not steps:
        return "[redacted]"
    if isinstance(value, list):
        return [_hidden(one, steps) for one in value]
    if isinstance(value, dict):
        return {
            name: _hidden(one, steps[1:]) if name.casefold() == steps[0] else one
            for name, one in value.items()
        }
    return "[redacted]" if isinstance(value, str) else value


@given(_JSON, st.sampled_from(["a", "b.a", "a.b.a"]), st.sampled_from([None, 1]), st.booleans())
def test_any_json_is_redacted_as_the_parsed_one_would_be(
    value: Any, path: str, indent: int | None, ascii_only: bool
) -> None:
    body = json.dumps(value, indent=indent, ensure_ascii=ascii_only).encode()
    assert json.loads(redacted(body, "", [path])) == _hidden(value, tuple(path.split(".")))


@given(st.binary(max_size=60), st.sampled_from([FORM, "application/json", ""]))
def test_no_body_breaks_it(body: bytes, content_type: str) -> None:
    redacted(body, content_type, ["a", "b.0.c", "*"])


def test_headers_are_hidden_by_name() -> None:
    block = b"Content-Type: text/plain\r\nX-Customer: ada\r\nX-Other: 1"
    hidden = b"Content-Type: text/plain\r\nX-Customer: [redacted]\r\nX-Other: 1"
    assert redacted_headers(block, ["email", "header:x-CUSTOMER"]) == hidden
    assert redacted_headers(block, ["email"]) == block


@pytest.mark.parametrize(
    ("path", "is_hidden"),
    [
        ("data.email", True),
        ("DATA.Email", True),
        ("data", True),
        ("data.email.home", True),
        ("data.0.email", True),
        ("data.name", False),
        ("email", False),
        ("items.*.sku", True),
        ("items.3.sku", True),
        ("items.price", False),
    ],
)
def test_a_search_is_known_that_could_tell_what_is_hidden(path: str, is_hidden: bool) -> None:
    names = path.split(".")
    assert is_redacted(names, ["data.email", "items.0.sku", "header:x"]) is is_hidden
    assert is_redacted(names, EVERYTHING)
    assert not is_redacted(names, [])


@pytest.mark.parametrize(
    ("names", "is_hidden"),
    [
        (["data[email]"], True),
        (["data[0][email]"], True),
        (["data[]", "email"], True),
        (["data.email"], True),
        (["homes", "a.b", "street"], True),
        (["homes", "a.b", "city"], False),
        (["homes", "a", "city"], False),
        (["data[name]"], False),
    ],
)
def test_a_search_is_known_whose_names_have_dots_or_brackets(
    names: list[str], is_hidden: bool
) -> None:
    assert is_redacted(names, ["data.email", "homes.*.street"]) is is_hidden


@pytest.mark.parametrize("path", ["data[email]", "data.email", "data[0].email"])
def test_a_field_of_a_form_is_hidden_however_its_path_is_written(path: str) -> None:
    assert redacted(b"data[email]=x&data[0][email]=y&n=1", FORM, [path]).decode() == (
        "data[email]=[redacted]&data[0][email]=[redacted]&n=1"
    )


@pytest.mark.parametrize("path", ["", "a..b", ".a", "a. b", "a\n", "header:", "header:a b"])
def test_a_path_that_leads_nowhere_is_a_fault(path: str) -> None:
    assert repr(path) in fault_of_path(path)


@pytest.mark.parametrize("path", ["a", "a.b.0", "*", "header:X-Customer", "straße.nr"])
def test_other_paths_are_none(path: str) -> None:
    assert fault_of_path(path) == ""
