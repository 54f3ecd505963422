"""An event class: its name on the wire, and how a body becomes one of its instances."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, cast

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hookmill import Event
from hookmill.errors import DecodeError, HandlersError
from hookmill.events import check_fields, check_tag
from tests.support import message

if TYPE_CHECKING:
    from decimal import Decimal as Missing


class OrderPaid(Event, tag="order.paid"):
    order_id: str
    amount: int = 0


class Renamed(Event, tag="renamed", rename="camel"):
    order_id: str


class WithData(Event, tag="with.data"):
    data: dict[str, int]


class WithDataOnTheWire(Event, tag="with.data.on.the.wire"):
    payload: dict[str, int] = msgspec.field(name="data")


class DataOnlyInPython(Event, tag="data.only.in.python"):
    data: int = msgspec.field(name="figure")


class Named(Event, tag="named"):
    label: str = msgspec.field(name="tag")


class Colour(Event, tag="colour"):
    name: Literal["red"]


PAID = OrderPaid(order_id="A", amount=7)


@pytest.mark.parametrize(
    ("body", "event"),
    [
        (b'{"order_id": "A", "amount": 7}', PAID),
        (b'{"type": "order.paid", "data": {"order_id": "A", "amount": 7}}', PAID),
        (b'{"event": "order.paid", "data": {"order_id": "A", "amount": 7}}', PAID),
        (b' {"data" : {"amount":7,"order_id":"A"} , "type" : "order.paid"} ', PAID),
        (b'{"order_id": "A", "amount": 7, "new": [{"deep": null}]}', PAID),
        (b'{"order_id": "A"}', OrderPaid(order_id="A")),
        # No envelopes: no name beside the data, or one that is no text; data that is no object.
        (b'{"order_id": "A", "amount": 7, "data": {"order_id": "B"}}', PAID),
        (b'{"order_id": "A", "amount": 7, "type": 1, "data": {"order_id": "B"}}', PAID),
        (b'{"order_id": "A", "amount": 7, "type": "x", "data": ["B"]}', PAID),
        (b'{"order_id": "A", "amount": 7, "type": "x", "data": null}', PAID),
        (b'{"orderId": "A"}', Renamed(order_id="A")),
        # A class that reads `data` itself is given the whole body, whatever Python calls it.
        (b'{"type": "x", "data": {"a": 1}}', WithData(data={"a": 1})),
        (b'{"type": "x", "data": {"a": 1}}', WithDataOnTheWire(payload={"a": 1})),
        (b'{"type": "x", "data": {"figure": 1}}', DataOnlyInPython(data=1)),
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
def test_what_an_event_says_survives_the_wire_in_an_envelope_and_out_of_it(
    order_id: str, amount: int, extra: object
) -> None:
    event = OrderPaid(order_id=order_id, amount=amount)
    plain = msgspec.to_builtins(event) | {"extra": extra}
    enveloped = {"type": OrderPaid.tag, "data": plain}

    for body in (plain, enveloped):
        assert OrderPaid.from_message(message(msgspec.json.encode(body))) == event


def test_the_name_belongs_to_the_wire_and_not_to_the_python_class() -> None:
    class OrderWasPaid(Event, tag="order.paid"):
        pass

    assert OrderWasPaid.tag == OrderPaid.tag == "order.paid"


def test_a_subclass_inherits_fields_but_not_the_name() -> None:
    class Base(Event):
        id: str

    class Left(Base, tag="left"):
        pass

    class Below(Left):
        pass

    assert check_tag(Left) == "left"
    assert Left.from_message(message(b'{"id": "1"}')) == Left(id="1")
    for cls in (Event, Base, Below):
        with pytest.raises(HandlersError, match=f"{cls.__name__} has no name on the wire"):
            check_tag(cls)


def test_an_event_cannot_be_changed_and_takes_no_positional_arguments() -> None:
    event: Any = OrderPaid(order_id="A")

    with pytest.raises(AttributeError):
        event.amount = 1
    with pytest.raises(TypeError):
        cast("Any", OrderPaid)("A")


def test_a_field_named_tag_is_refused_because_the_events_name_would_hide_it() -> None:
    with pytest.raises(HandlersError, match="Wrong has a field named `tag`"):

        class Wrong(Event, tag="wrong"):
            tag: str  # type: ignore[misc] # what the test is about


def test_a_wire_form_of_ones_own_is_a_method_to_override() -> None:
    class Csv(Event, tag="csv"):
        cells: tuple[str, ...]

        @classmethod
        def from_message(cls, message: Any) -> Csv:
            return cls(cells=tuple(message.body.decode().split(",")))

    assert Csv.from_message(message(b"a,b")).cells == ("a", "b")
    check_fields(Csv)


def test_fields_that_nothing_can_fill_are_found_before_a_message_comes() -> None:
    class NeverImported(Event, tag="never.imported"):
        price: Missing

    class Ambiguous(Event, tag="ambiguous"):
        id: dict[str, int] | OrderPaid

    check_fields(OrderPaid)
    with pytest.raises(HandlersError, match=r"NeverImported cannot be decoded: .*'Missing'"):
        check_fields(NeverImported)
    with pytest.raises(HandlersError, match="Ambiguous cannot be decoded"):
        check_fields(Ambiguous)
