"""Event classes: their names on the wire, what a subclass inherits, and what is refused."""

from __future__ import annotations

from datetime import UTC, datetime
from types import new_class
from typing import TYPE_CHECKING, Any, cast
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hookmill import Event
from hookmill.config.identity import MAX_NAME
from hookmill.errors import HandlersError
from hookmill.events import MAX_TAG, check_fields, check_tag
from tests.support import message

if TYPE_CHECKING:
    from decimal import Decimal as Missing
from tests.event_classes import PAID, Channel, Everything, OrderPaid, Price


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
