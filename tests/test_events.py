"""Event classes: how a body becomes an event, and an event a body."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET, UnsetType

from hookmill import Event
from hookmill.errors import DecodeError
from hookmill.events import EncodeError
from tests.strategies import instances
from tests.support import message

if TYPE_CHECKING:
    from decimal import Decimal as Missing
from tests.event_classes import PAID, Everything, Named, OrderPaid, Price


class Renamed(Event, tag="renamed", rename="camel"):
    order_id: str


class WithData(Event, tag="with.data"):
    data: dict[str, int]


class WithDataOnTheWire(Event, tag="with.data.on.the.wire"):
    payload: dict[str, int] = msgspec.field(name="data")


class DataOnlyInPython(Event, tag="data.only.in.python"):
    data: int = msgspec.field(name="figure")


class Colour(Event, tag="colour"):
    name: Literal["red"]


class Compact(Event, tag="compact", array_like=True):
    data: int
    price: Price | None = None


class Sparse(Event, tag="sparse", omit_defaults=True, forbid_unknown_fields=True):
    a: int = 0
    b: str = ""


class Bounded(Event, tag="bounded"):
    share: Annotated[float, msgspec.Meta(ge=0, le=1)]


@pytest.mark.parametrize(
    ("body", "event"),
    [
        (b'{"order_id": "A", "amount": 7}', PAID),
        (b'{"type": "order.paid", "data": {"order_id": "A", "amount": 7}}', PAID),
        (b'{"event": "order.paid", "data": {"order_id": "A", "amount": 7}}', PAID),
        (b' {"data" : {"amount":7,"order_id":"A"} , "type" : "order.paid"} ', PAID),
        (rb'{"type": "x", "d\u0061ta": {"order_id": "A", "amount": 7}}', PAID),
        (b'{"order_id": "A", "amount": 7, "new": [{"deep": null}]}', PAID),
        (b'{"order_id": "A"}', OrderPaid(order_id="A")),
        # Not an envelope: the type is missing or not a text, or the data is not an object.
        (b'{"order_id": "A", "amount": 7, "data": {"order_id": "B"}}', PAID),
        (b'{"order_id": "A", "amount": 7, "type": 1, "data": {"order_id": "B"}}', PAID),
        (b'{"order_id": "A", "amount": 7, "type": "x", "data": ["B"]}', PAID),
        (b'{"order_id": "A", "amount": 7, "type": "x", "data": null}', PAID),
        (b'{"orderId": "A"}', Renamed(order_id="A")),
        # A class with a field `data` on the wire or in Python reads the whole body.
        (b'{"type": "x", "data": {"a": 1}}', WithData(data={"a": 1})),
        (b'{"type": "x", "data": {"a": 1}}', WithDataOnTheWire(payload={"a": 1})),
        (b'{"type": "x", "data": {"figure": 1}}', DataOnlyInPython(data=1)),
        # An event whose fields are an array: in an envelope, and without one.
        (b'{"type": "x", "data": [1, null]}', Compact(data=1)),
        (b"[1]", Compact(data=1)),
        (b'{"type": "x", "data": {"tag": "new"}}', Named(label="new")),
    ],
)
def test_fields_are_read_from_the_body_or_from_the_data_of_an_envelope(
    body: bytes, event: Event
) -> None:
    assert type(event).from_message(message(body)) == event


@pytest.mark.parametrize(
    ("cls", "body", "said"),
    [
        (OrderPaid, b"", "Input data was truncated"),
        (OrderPaid, b"\xff", "JSON is malformed: invalid character (byte 0)"),
        (OrderPaid, b"[]", "Expected `object`, got `array`"),
        (OrderPaid, b"{}", "Object missing required field `order_id`"),
        (
            OrderPaid,
            b'{"order_id": "A", "amount": "7"}',
            "Expected `int`, got `str` - at `$.amount`",
        ),
        (
            OrderPaid,
            b'{"type": "x", "data": {"order_id": "A", "amount": "7"}}',
            "Expected `int`, got `str` - at `$.data.amount`",
        ),
        (
            OrderPaid,
            b'{"type": "x", "data": {}}',
            "Object missing required field `order_id` - at `$.data`",
        ),
        (
            Colour,
            b'{"type": "x", "data": {"name": " - at `$.forged`"}}',
            "Invalid enum value ' - at `$.forged`' - at `$.data.name`",
        ),
        (
            OrderPaid,
            b'{"order_id": ' + b"[" * 100_000,
            "Expected `str`, got `array` - at `$.order_id`",
        ),
        (OrderPaid, b'{"new": ' + b"[" * 100_000, "the JSON is nested too deeply"),
        (
            OrderPaid,
            b'{"type": "x", "data": {"new": ' + b'{"a": ' * 100_000,
            "the JSON is nested too deeply",
        ),
    ],
)
def test_a_body_that_does_not_fit_is_refused_with_the_reason_and_the_path(
    cls: type[Event], body: bytes, said: str
) -> None:
    with pytest.raises(DecodeError) as caught:
        cls.from_message(message(body))

    assert str(caught.value) == said


@given(st.binary())
def test_any_bytes_end_in_an_event_or_a_decode_error(body: bytes) -> None:
    try:
        event = OrderPaid.from_message(message(body))
    except DecodeError:
        return
    assert isinstance(event, OrderPaid)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(order_id=st.text(), amount=st.integers(-(2**63), 2**63 - 1), extra=JSON)
def test_an_event_keeps_its_fields_on_the_wire_with_and_without_an_envelope(
    order_id: str, amount: int, extra: object
) -> None:
    event = OrderPaid(order_id=order_id, amount=amount)
    plain = msgspec.to_builtins(event) | {"extra": extra}
    enveloped = {"type": OrderPaid.tag, "data": plain}

    for body in (plain, enveloped):
        assert OrderPaid.from_message(message(msgspec.json.encode(body))) == event


@given(
    event=st.one_of(*map(instances, [Everything, OrderPaid, Renamed, Compact, Sparse, Named])),
    key=st.sampled_from(["type", "event"]),
)
def test_what_is_encoded_as_data_is_decoded_as_the_equal_event(event: Event, key: str) -> None:
    cls = type(event)
    for name in cls.names:
        body = b'{"%b": %b, "data": %b}' % (
            key.encode(),
            msgspec.json.encode(name),
            event.to_data(),
        )
        assert cls.from_message(message(body, type=name)) == event


@pytest.mark.parametrize(
    ("event", "data"),
    [
        (PAID, b'{"order_id":"A","amount":7}'),
        (Renamed(order_id="A"), b'{"orderId":"A"}'),
        (DataOnlyInPython(data=1), b'{"figure":1}'),
        (Named(label="new"), b'{"tag":"new"}'),
        (Sparse(b="x"), b'{"b":"x"}'),
        (Compact(data=1), b"[1,null]"),
    ],
)
def test_data_has_the_fields_under_their_names_on_the_wire(event: Event, data: bytes) -> None:
    assert event.to_data() == data


def test_an_unset_field_is_left_out_and_a_null_field_is_not() -> None:
    class Change(Event, tag="change"):
        a: str | UnsetType | None = UNSET
        b: str | UnsetType | None = UNSET

    assert Change(b=None).to_data() == b'{"b":null}'


class Unreadable(Event, tag="unreadable"):
    price: Missing


LOOP: list[Any] = []
LOOP.append(LOOP)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (
            lambda: OrderPaid(order_id=cast("Any", 7)),
            "OrderPaid cannot be sent: Expected `str`, got `int` - at `$.order_id`",
        ),
        (
            lambda: OrderPaid(order_id=cast("Any", UNSET)),
            "OrderPaid cannot be sent: Object missing required field `order_id`",
        ),
        (lambda: Colour(name=cast("Any", "blue")), "Colour cannot be sent: Invalid enum value"),
        (lambda: Bounded(share=1.5), "Bounded cannot be sent: Expected `float` <= 1.0 - at"),
        (lambda: Bounded(share=float("nan")), "Bounded cannot be sent: Expected `float`, got `nul"),
        (lambda: OrderPaid(order_id="\ud800"), "OrderPaid cannot be encoded: "),
        (lambda: OrderPaid(order_id=cast("Any", object())), "OrderPaid cannot be encoded: "),
        (lambda: OrderPaid(order_id=cast("Any", LOOP)), "OrderPaid cannot be encoded: "),
        (lambda: Unreadable(price=cast("Any", 1)), "Unreadable cannot be encoded: .*'Missing'"),
        (lambda: WithData(data={"a": 1}), "WithData has a field `data`, so it reads a whole body"),
        (
            lambda: WithDataOnTheWire(payload={}),
            "WithDataOnTheWire has a field `data`, so it reads",
        ),
    ],
)
def test_an_event_that_no_receiver_could_read_is_refused_before_it_is_sent(
    make: Callable[[], Event], said: str
) -> None:
    with pytest.raises(EncodeError, match=said.replace("$", r"\$")):
        make().to_data()
