"""Hypothesis strategies that draw events of any class, with every value that can be sent."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin

import msgspec
from hypothesis import strategies as st
from msgspec import UNSET, UnsetType

# On the wire, offsets of time zones are whole minutes.
ZONES = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
# One day less at each end, because a time zone must not move a time out of the calendar.
WHEN = (datetime.fromisoformat("0001-01-02"), datetime.fromisoformat("9999-12-30"))
PLAIN: dict[Any, st.SearchStrategy[Any]] = {
    NoneType: st.none(),
    UnsetType: st.just(UNSET),
    bool: st.booleans(),
    int: st.integers(),
    # JSON knows no NaN and no infinity.
    float: st.floats(allow_nan=False, allow_infinity=False),
    str: st.text(max_size=20),
    bytes: st.binary(max_size=20),
    datetime: st.datetimes(*WHEN, timezones=st.just(UTC) | ZONES),
}


def instances(cls: type[Any]) -> st.SearchStrategy[Any]:
    """Draw any instance of a struct. Each field has any value of its type."""
    return st.builds(cls, **{one.name: values(one.type) for one in msgspec.structs.fields(cls)})


def values(wanted: Any) -> st.SearchStrategy[Any]:
    origin, arguments = get_origin(wanted), get_args(wanted)
    if origin is Annotated:
        return values(arguments[0])
    if origin in {Union, UnionType}:
        return st.one_of([values(one) for one in arguments])
    if origin is tuple and arguments[-1] is ...:
        return st.lists(values(arguments[0]), max_size=3).map(tuple)
    if origin is tuple:
        return st.tuples(*map(values, arguments))
    if origin is list:
        return st.lists(values(arguments[0]), max_size=3)
    if origin is dict:
        return st.dictionaries(*map(values, arguments), max_size=3)
    if isinstance(wanted, type) and issubclass(wanted, msgspec.Struct):
        return instances(wanted)
    return PLAIN[wanted] if wanted in PLAIN else st.from_type(wanted)
