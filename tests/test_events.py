"""Event classes: their names on the wire, and how a body becomes an event."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from enum import Enum
from types import new_class
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET, UnsetType

from hookmill import Event
from hookmill.config.identity import MAX_NAME
from hookmill.errors import DecodeError, HandlersError
from hookmill.events import MAX_TAG, EncodeError, check_fields, check_tag
from tests.strategies import instances
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


class Price(msgspec.Struct, frozen=True):
    amount: int | float
    currency: Literal["EUR", "USD"] = "EUR"


class Channel(Enum):
    WEB = "web"
    SHOP = "shop"


class Everything(Event, tag="every thing", aliases=("all",), version=3, rename="camel"):
    """One field of each kind. Some have names with a meaning elsewhere, such as `version`."""

    order_id: str
    price_paid: Price
    at: datetime
    channel: Channel
    reference: UUID
    version: int
    type: str = ""
    names: tuple[str, ...] = ()
    aliases: tuple[str, int] = ("", 0)
    raw: bytes = b""
    note: str | UnsetType | None = UNSET
    prices: dict[str, Price] | None = None
    rows: list[list[bool]] | None = None
    earlier: tuple[Price, ...] | UnsetType = UNSET
    label: str | UnsetType = msgspec.field(default=UNSET, name="tag")


class Compact(Event, tag="compact", array_like=True):
    data: int
    price: Price | None = None


class Sparse(Event, tag="sparse", omit_defaults=True, forbid_unknown_fields=True):
    a: int = 0
    b: str = ""


class Bounded(Event, tag="bounded"):
    share: Annotated[float, msgspec.Meta(ge=0, le=1)]


PAID = OrderPaid(order_id="A", amount=7)


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


def test_renaming_the_class_changes_nothing_on_the_wire() -> None:
    class OrderWasPaid(Event, tag="order.paid"):
        order_id: str
        amount: int = 0

    renamed = OrderWasPaid(order_id="A", amount=7)

    assert OrderWasPaid.tag == OrderPaid.tag == "order.paid"
    assert renamed.to_data() == PAID.to_data()
    body = b'{"type":"order.paid","data":%b}' % PAID.to_data()
    assert OrderWasPaid.from_message(message(body)) == renamed


def test_an_event_has_a_name_a_version_and_earlier_names() -> None:
    class First(Event, tag="order.shipped"):
        pass

    class Second(Event, tag="order.shipped", version=2, aliases=("order.shipped", "order.sent")):
        pass

    assert (First.tag, First.version, First.aliases) == ("order.shipped", 1, ())
    assert First.names == ("order.shipped",)
    assert (Second.tag, Second.version) == ("order.shipped.v2", 2)
    assert Second.aliases == ("order.shipped", "order.sent")
    assert Second.names == ("order.shipped.v2", "order.shipped", "order.sent")
    assert (Event.tag, Event.version, Event.aliases) == ("", 1, ())


def test_a_field_may_have_the_name_of_the_version_or_aliases_of_its_class() -> None:
    event = Everything(
        order_id="A",
        price_paid=Price(amount=1),
        at=datetime(2026, 11, 21, tzinfo=UTC),
        channel=Channel.WEB,
        reference=UUID(int=7),
        version=9,
        names=("n",),
        aliases=("a", 1),
    )

    assert (event.version, event.names, event.aliases) == (9, ("n",), ("a", 1))
    assert Everything.version == 3
    assert cast("Any", Everything).aliases == ("all",)
    assert cast("Any", Everything).names == ("every thing.v3", "all")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            {"tag": ""},
            "Wrong: tag: '' cannot be a name on the wire: give printable text without spaces",
        ),
        ({"tag": " a"}, "tag: ' a' cannot be a name"),
        ({"tag": "a\n"}, r"tag: 'a\\n' cannot be a name"),
        ({"tag": "a\0b"}, "cannot be a name"),
        ({"tag": "\ud800"}, r"tag: '\\ud800' cannot be a name"),
        ({"tag": "post.*"}, r"tag: 'post.\*' cannot be a name on the wire: .* and without \*"),
        ({"tag": b"a"}, "tag: b'a' is not a str"),
        ({"tag": 5}, "tag: 5 is not a str"),
        ({"tag": "a" * 256}, "tag: a name has more than 255 characters"),
        ({"tag": "a" * 253, "version": 2}, "its name on the wire has more than 255 characters"),
        ({"tag": "a", "version": 0}, "version=0: give a whole number, 1 or more"),
        ({"tag": "a", "version": -1}, "version=-1: give"),
        ({"tag": "a", "version": True}, "version=True: give"),
        ({"tag": "a", "version": "2"}, "version='2': give"),
        ({"tag": "a", "version": 2.0}, "version=2.0: give"),
        ({"version": 2}, "version=2 needs a name: give tag as well"),
        ({"aliases": ("b",)}, "aliases need a name: give tag as well"),
        ({"tag": "a", "aliases": "b"}, r"aliases='b': give a tuple, such as \('old.name',\)"),
        ({"tag": "a", "aliases": ["b"]}, r"aliases=\['b'\]: give a tuple"),
        ({"tag": "a", "aliases": None}, "aliases=None: give a tuple"),
        ({"tag": "a", "aliases": ("",)}, "aliases: '' cannot be a name"),
        ({"tag": "a", "aliases": ("b\x7f",)}, "aliases: .* cannot be a name"),
        ({"tag": "a", "aliases": ("*",)}, "aliases: .* cannot be a name"),
        ({"tag": "a", "aliases": (5,)}, "aliases: 5 is not a str"),
        ({"tag": "a", "aliases": ("b" * 256,)}, "aliases: a name has more"),
        ({"tag": "a", "aliases": ("b", "a")}, "the alias 'a' is also the name on the wire"),
        ({"tag": "a", "version": 2, "aliases": ("a.v2",)}, "the alias 'a.v2' is also the name"),
        ({"tag": "a", "aliases": ("b", "c", "b")}, "the alias 'b' is given twice"),
        ({"tag": "a", "tag_field": "kind"}, "Wrong: remove tag_field: an event's name"),
    ],
)
def test_a_name_that_no_message_could_have_is_refused_with_its_class(
    options: dict[str, Any], said: str
) -> None:
    with pytest.raises(HandlersError, match=said) as caught:
        new_class("Wrong", (Event,), options)

    assert str(caught.value).startswith("Wrong: ")
    assert len(str(caught.value)) < 250


@given(st.text() | st.sampled_from(["Push Hook", "bestellung.bezahlt", "注文"]))
def test_any_text_is_a_name_or_refused(tag: str) -> None:
    try:
        cls = cast("type[Event]", new_class("Any", (Event,), {"tag": tag}))
    except HandlersError:
        return
    assert cls.tag == tag.strip() == tag
    assert tag.isprintable()


def test_a_name_may_be_as_long_as_a_source_accepts() -> None:
    assert MAX_TAG == MAX_NAME
    assert cast("Any", new_class("Long", (Event,), {"tag": "a" * MAX_NAME})).tag


def test_a_subclass_inherits_fields_but_not_the_name() -> None:
    class Base(Event):
        id: str

    class Left(Base, tag="left"):
        pass

    class Below(Left):
        pass

    class Named(Event, tag="named", version=2, aliases=("named",)):
        pass

    class BelowNamed(Named):
        pass

    assert check_tag(Left) == "left"
    assert Left.from_message(message(b'{"id": "1"}')) == Left(id="1")
    assert (BelowNamed.version, BelowNamed.aliases) == (1, ())
    for cls in (Event, Base, Below, BelowNamed):
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


@pytest.mark.parametrize("name", ["from_message", "to_data", "wire_data", "wire_body"])
def test_a_field_named_as_a_method_is_refused_because_it_would_hide_it(name: str) -> None:
    with pytest.raises(HandlersError, match=f"Wrong has a field named `{name}`, which is a method"):
        new_class("Wrong", (Event,), {}, lambda body: body.update(__annotations__={name: int}))


def test_an_event_class_may_read_its_own_format_in_an_overridden_method() -> None:
    class Csv(Event, tag="csv"):
        cells: tuple[str, ...]

        @classmethod
        def from_message(cls, message: Any) -> Csv:
            return cls(cells=tuple(message.body.decode().split(",")))

    assert Csv.from_message(message(b"a,b")).cells == ("a", "b")
    check_fields(Csv)


def test_fields_that_cannot_be_decoded_are_found_before_a_message_comes() -> None:
    class NeverImported(Event, tag="never.imported"):
        price: Missing

    class Ambiguous(Event, tag="ambiguous"):
        id: dict[str, int] | OrderPaid

    check_fields(OrderPaid)
    with pytest.raises(HandlersError, match=r"NeverImported cannot be decoded: .*'Missing'"):
        check_fields(NeverImported)
    with pytest.raises(HandlersError, match="Ambiguous cannot be decoded"):
        check_fields(Ambiguous)
