"""What a condition on a body matches, and what is no condition."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hookmill.admin.body_paths import (
    LARGEST_BODY,
    BodyPathError,
    condition_of,
)

BODY = json.dumps(
    {
        "data": {"order": {"total": 12, "paid": True, "note": None}, "email": "a@example.org"},
        "items": [{"sku": "a1"}, {"sku": "b2"}, 7],
        "odd.name": {"x y": "1"},
        "big": 123456789012345678901234567890,
    }
).encode()


@pytest.mark.parametrize(
    "condition",
    [
        "data.order.total=12", "data.order.paid=true", "data.order.note=null",
        "data.email=a@example.org", "data.email~*@example.org", "data.email~a*",
        "items[0].sku=a1", "items[*].sku=b2", "items[2]=7", '["odd.name"]["x y"]=1',
        '["odd.name"].x y=1',
    ],
)  # fmt: skip
def test_a_value_at_a_path_is_found(condition: str) -> None:
    assert condition_of(condition).matches(BODY)


@pytest.mark.parametrize(
    "condition",
    [
        "data.order.total=1", "data.order=", "data.order~*", "data.missing~*", "items.sku=a1",
        "items[3].sku=a1", "items[*].sku=c3", "data[0]=12", "data.email~*@example.com",
        "data.email=*",
    ],
)  # fmt: skip
def test_another_value_or_another_place_is_not(condition: str) -> None:
    assert not condition_of(condition).matches(BODY)


def test_a_form_is_looked_into_by_the_names_of_its_fields() -> None:
    form = b"payment.id=7&data%5Bemail%5D=a%40b.org&items=1&items=2"
    for condition in ("payment.id=7", "data.email~*@b.org", "items=2"):
        assert condition_of(condition).matches(form)
    assert not condition_of("items=3").matches(form)


@pytest.mark.parametrize(
    "text",
    ["", "x", "=", "=1", ".a=1", "a..b=1", "a[0]b=1", "a[b]=1", "a.=1", "[=1", ".".join("a" * 17)],
)
def test_what_is_no_condition_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(BodyPathError, match=r"data\.order\.total=12"):
        condition_of(text)


def test_a_body_beyond_the_bounds_does_not_match() -> None:
    assert not condition_of("a=1").matches(b'{"a":1,"b":"%s"}' % (b"x" * LARGEST_BODY))
    assert not condition_of("a=1").matches(b"[" * 100_000)
    assert not condition_of("[*][*][*]=1").matches(json.dumps([[[0] * 300] * 300] * 3).encode())


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text("ab ", min_size=1), inner, max_size=3)
    ),
    max_leaves=8,
)  # fmt: skip


def leaves(value: Any, path: str = "") -> list[tuple[str, Any]]:
    if isinstance(value, dict):
        return [leaf for name, one in value.items() for leaf in leaves(one, f'{path}["{name}"]')]
    if isinstance(value, list):
        return [leaf for place, one in enumerate(value) for leaf in leaves(one, f"{path}[{place}]")]
    return [(path, value)]


@given(JSON)
def test_every_value_is_found_by_its_path(value: Any) -> None:
    for path, leaf in leaves(value):
        if path:
            said = leaf if isinstance(leaf, str) else json.dumps(leaf)
            assert condition_of(f"{path}={said}").matches(json.dumps(value).encode())


@given(st.text(max_size=30), st.binary(max_size=60))
def test_any_text_is_a_condition_or_refused_and_any_body_is_judged(text: str, body: bytes) -> None:
    try:
        condition = condition_of(text)
    except BodyPathError:
        return
    assert condition.matches(body) in {True, False}
