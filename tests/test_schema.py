"""The documents of `hookmill schema`: what they accept and refuse, and that no part is missing."""

from __future__ import annotations

import json
import re
from types import ModuleType
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from hookmill import Event, Handlers
from hookmill.admin.declared_events import of_handlers, of_module
from hookmill.catalog import marble
from hookmill.errors import HandlersError
from hookmill.events import Schema
from hookmill.schema import Declared, Operation, asyncapi, json_schema
from tests.declared_events import (
    OWN,
    PAID,
    Csv,
    Money,
    OrderPaid,
    OrderPaid2,
    Points,
    Pushed,
    body_of,
    check_that_every_reference_leads_somewhere,
    declared,
    document,
    event_class,
    handle,
)
from tests.strategies import instances


def accepts(schema: Schema, value: object, *, of: str = "") -> bool:
    if of:
        schema = {"$ref": f"#/$defs/{of}", "$defs": schema["$defs"]}
    return bool(Draft202012Validator(schema).is_valid(value))


MARBLE = document(*marble.EVENTS)


@given(event=st.one_of(*map(instances, marble.EVENTS)), key=st.sampled_from(["type", "event"]))
def test_every_event_of_marble_that_can_be_sent_is_accepted_in_either_generation(
    event: marble.MarbleEvent, key: str
) -> None:
    assert accepts(MARBLE, json.loads(event.to_data()), of=event.tag)
    body = body_of(event, key=key)
    assert accepts(MARBLE, body)
    assert not accepts(MARBLE, body | {key: "post.created"})
    assert not accepts(MARBLE, body | {"data": {}})


@pytest.mark.parametrize(
    ("changed", "is_accepted"),
    [
        ({}, True),
        ({"new": 1}, True),
        ({"actor": None}, True),
        ({"id": 7}, False),
        ({"workspaceId": None}, False),
        ({"resource": {"type": 7}}, False),
        ({"data": {"id": "p1", "title": 7}}, False),
        ({"data": {"title": "Hello"}}, False),
        ({"type": "post.updated", "data": {"id": "p1", "changes": "title"}}, False),
    ],
)
def test_the_fields_of_marbles_envelope_are_described_too(
    changed: dict[str, Any], is_accepted: bool
) -> None:
    body = {"id": "e1", "type": "post.published", "workspaceId": "w1", "data": {"id": "p1"}}

    assert accepts(MARBLE, body | changed) is is_accepted


def test_the_envelope_is_not_part_of_the_described_data() -> None:
    assert "$envelope" not in json.dumps(MARBLE)
    assert set(MARBLE["$defs"]) == {cls.tag for cls in marble.EVENTS} | {
        "Actor",
        "Resource",
        "Social",
    }
    assert MARBLE["$defs"]["post.deleted"]["title"] == "PostDeleted"
    assert MARBLE["$defs"]["post.deleted"]["description"].startswith("A post was deleted.")


MINE = document(*OWN)


@given(event=st.one_of(*map(instances, [OrderPaid, OrderPaid2, Pushed])))
def test_every_event_of_a_user_that_can_be_sent_is_accepted(event: Event) -> None:
    for name in type(event).names:
        assert accepts(MINE, body_of(event, name))


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("order.paid", {"orderId": "A"}),
        ("order.paid", {"price": {"type": "money", "amount": 7}}),
        ("order.paid", {"orderId": 7, "price": {"type": "money", "amount": 7}}),
        ("order.paid", {"orderId": "A", "price": {"type": "money", "amount": "7"}}),
        ("order.paid", {"orderId": "A", "price": {"type": "points", "amount": 7}}),
        ("order.paid", {"order_id": "A", "price": {"type": "money", "amount": 7}}),
        ("order.paid.v2", {"orderId": "A", "price": {"type": "points", "points": 7}}),
        ("order.payed", {"orderId": "A", "price": {"type": "points", "points": 7}}),
        ("order.unpaid", {"orderId": "A", "price": {"type": "money", "amount": 7}}),
        ("Push/Hook ~%é", {}),
    ],
)
def test_a_wrong_or_missing_field_is_refused(name: str, data: dict[str, Any]) -> None:
    assert not accepts(document(OrderPaid, OrderPaid2, Pushed), {"type": name, "data": data})


def test_each_name_on_the_wire_has_an_entry() -> None:
    schema = document(*OWN)

    assert schema["title"] == "app.main"
    assert list(schema["$defs"]) == [
        *("order.paid", "Money", "Points", "order.paid.v2", "Push/Hook ~%é", "whole"),
        "order.payed",
    ]
    assert schema["$defs"]["order.payed"] == {
        "$ref": "#/$defs/order.paid.v2",
        "description": "An earlier name of order.paid.v2.",
        "deprecated": True,
    }
    assert schema["$defs"]["Money"]["description"] == "What is paid.\n\nIn whole units."
    assert schema["anyOf"][-1] == {"$ref": "#/$defs/whole"}
    assert "discriminator" not in json.dumps(schema)
    check_that_every_reference_leads_somewhere(schema)


def test_an_alias_of_two_events_must_fit_both_and_a_tag_is_that_of_its_own_event() -> None:
    class Renamed(Event, tag="renamed", aliases=("order.payed", "order.paid")):
        note: str

    schema = document(OrderPaid2, OrderPaid, Renamed)
    both = {"orderId": "A", "price": {"type": "money", "amount": 7}, "note": "n"}

    assert accepts(schema, {"type": "order.payed", "data": both})
    for missing in both:
        less = {name: value for name, value in both.items() if name != missing}
        assert not accepts(schema, {"type": "order.payed", "data": less})
    assert accepts(schema, body_of(PAID))
    assert schema["$defs"]["order.payed"]["description"] == (
        "An earlier name of order.paid.v2 and renamed."
    )


def test_an_event_that_reads_its_own_format_accepts_any_body() -> None:
    schema = document(Csv)

    assert accepts(schema, "a,b")
    assert accepts(schema, {"cells": ["a"]}, of="csv")


def test_two_classes_of_one_name_on_the_wire_are_refused() -> None:
    class PostPublished(Event, tag="post.published"):
        headline: str

    both = declared_under_names(marble.PostPublished, PostPublished)
    for make in (json_schema, asyncapi):
        with pytest.raises(HandlersError) as caught:
            make(both)
        assert str(caught.value).startswith(
            "two classes are called 'post.published' on the wire, "
            "hookmill.catalog.marble.PostPublished and tests.test_schema.test_two_classes_of"
        )


def declared_under_names(*events: type[Event]) -> Declared:
    handlers = Handlers()
    for number, event in enumerate(events):
        handlers.on(event, name=str(number))(handle)
    return of_handlers("app:handlers", handlers)


def test_types_of_one_name_get_different_names_in_the_document() -> None:
    other = msgspec.defstruct("Money", [("coins", list[int])], module="other")

    first = event_class("First", {"tag": "Points"}, money=Money, points=Points)
    second = event_class("Second", {"tag": "money", "aliases": ("other.Money",)}, money=other)

    schema = document(first, second)

    good = {"money": {"type": "money", "amount": 7}, "points": {"type": "points", "points": 1}}
    assert accepts(schema, good, of="Points")
    assert accepts(schema, {"money": {"coins": [1]}}, of="money")
    assert accepts(schema, {"money": {"coins": [1]}}, of="other.Money")
    assert not accepts(schema, {"money": {"coins": [1]}}, of="Points")
    assert not accepts(schema, good, of="money")
    check_that_every_reference_leads_somewhere(schema)


@pytest.mark.parametrize(
    ("annotation", "said"),
    [
        (object, "the fields of tests.declared_events.Odd have no JSON Schema: "),
        ("Missing", "the fields of tests.declared_events.Odd have no JSON Schema: .*'Missing'"),
        (dict[str, int] | OrderPaid, "have no JSON Schema: "),
    ],
)
def test_a_field_without_a_schema_is_named_with_its_class(annotation: Any, said: str) -> None:
    odd = event_class("Odd", {"tag": "odd"}, field=annotation)

    with pytest.raises(HandlersError, match=said):
        json_schema(declared(odd))


def test_two_types_that_msgspec_cannot_distinguish_are_named() -> None:
    def local(kind: type) -> type[msgspec.Struct]:
        return msgspec.defstruct("Local", [("x", kind)], module=__name__)

    both = event_class("Both", {"tag": "both"}, a=local(int), b=local(str))

    with pytest.raises(HandlersError, match="two types of one module are both called Local"):
        json_schema(declared(both))


# --- where the events come from --------------------------------------------------------------


def test_a_module_declares_only_its_own_events_that_have_a_tag() -> None:
    module = ModuleType("app.events")

    class Base(Event):
        id: str

    class Mine(Base, tag="mine", aliases=("ours",)):
        """It is mine."""

    Base.__module__ = Mine.__module__ = "app.events"
    vars(module).update(Base=Base, Mine=Mine, Again=Mine, Foreign=OrderPaid, five=5)

    found = of_module(module)

    received = Operation("mine", "It is mine.", ("mine", "ours"))
    assert found == Declared("app.events", "0.0.0", (Mine,), (received,))
    with pytest.raises(HandlersError, match="'empty' declares no event: name a module with"):
        of_module(ModuleType("empty"))


def test_the_version_is_that_of_the_package() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+.*", of_module(marble).version)
    assert of_module(marble).version != "0.0.0"
    assert of_module(marble).events == marble.EVENTS


def test_handlers_declare_each_event_once_and_its_receivers() -> None:
    handlers = Handlers()
    handlers.on(OrderPaid2, name="second")(handle)
    handlers.on("order.*", name="orders")(handle)
    handlers.on(OrderPaid2, name="second too")(lambda _: None)
    handlers.on("push", name="of no known event")(handle)

    found = of_handlers("app.main:handlers", handlers)

    assert (found.title, found.events) == ("app.main", (OrderPaid2,))
    both = ("order.paid.v2", "order.payed")
    assert found.operations == (
        ("second", "Do it.", both),
        ("orders", "Do it.", both),
        ("second too", "", both),
    )
    untyped = Handlers()
    untyped.on("*")(handle)
    with pytest.raises(HandlersError, match="'app:handlers': no handler is for an event class"):
        of_handlers("app:handlers", untyped)
