"""Events of a user, and how the tests of `hookmill schema` read its documents."""

from __future__ import annotations

import json
from collections.abc import Iterator
from types import new_class
from typing import Any, Literal, cast
from urllib.parse import unquote

import msgspec
from jsonschema import Draft202012Validator

from hookmill import Delivery, Event, Handlers
from hookmill.admin.declared_events import of_handlers
from hookmill.events import Schema
from hookmill.schema import Declared, json_schema, to_json


class Money(msgspec.Struct, frozen=True, tag="money"):
    """What is paid.

    In whole units.
    """

    amount: int
    currency: Literal["EUR", "USD"] = "EUR"


class Points(msgspec.Struct, frozen=True, tag="points"):
    points: int


class OrderPaid(Event, tag="order.paid", rename="camel"):
    """An order was
    paid.

    In full, that is.
    """

    order_id: str
    price: Money | Points
    place: tuple[float, float] = (0, 0)


class OrderPaid2(Event, tag="order.paid", version=2, aliases=("order.payed",), rename="camel"):
    order_id: str
    price: Money


class Pushed(Event, tag="Push/Hook ~%é"):
    ref: str


class Whole(Event, tag="whole"):
    """It reads a body whole."""

    data: dict[str, int]


class Csv(Event, tag="csv", aliases=("order.payed",)):
    cells: tuple[str, ...]

    @classmethod
    def from_message(cls, message: Any) -> Csv:
        return cls(cells=tuple(message.body.decode().split(",")))


OWN: tuple[type[Event], ...] = (OrderPaid, OrderPaid2, Pushed, Whole)


def event_class(name: str, options: dict[str, Any], **fields: Any) -> type[Event]:
    """Make an event class. Its fields may have types without a name in this module."""
    said = {"__annotations__": fields, "__module__": __name__, "__qualname__": name}
    return cast("type[Event]", new_class(name, (Event,), options, lambda body: body.update(said)))


def declared(*events: type[Event]) -> Declared:
    handlers = Handlers()
    for event in events:
        handlers.on(event, name=event.tag)(handle)
    return of_handlers("app.main:handlers", handlers)


async def handle(delivery: Delivery[Any]) -> None:
    """Do it.

    At once.
    """


def document(*events: type[Event]) -> Schema:
    made: Schema = json.loads(to_json(json_schema(declared(*events))))
    Draft202012Validator.check_schema(made)
    return made


def body_of(event: Event, name: str = "", key: str = "type") -> dict[str, Any]:
    return {key: name or event.tag, "data": json.loads(event.to_data())}


PAID = OrderPaid(order_id="A", price=Money(amount=7))


def check_that_every_reference_leads_somewhere(made: Schema) -> None:
    references = set(references_in(made))
    assert references
    for reference in references:
        found: Any = made
        for part in unquote(reference).removeprefix("#/").split("/"):
            found = found[part.replace("~1", "/").replace("~0", "~")]


def references_in(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(reference := value.get("$ref"), str):
            yield reference
        for inner in value.values():
            yield from references_in(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from references_in(inner)
