"""The table of handlers: which one runs for an event, and in which order."""

from __future__ import annotations

import re
from typing import Any, SupportsIndex, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hookmill import Event, Handlers
from hookmill.errors import DecodeError
from hookmill.handlers import matches_pattern
from tests.handled import OrderLost, OrderPaid, handle
from tests.support import message


class OrderPaid2(Event, tag="order.paid", version=2):
    order_id: str
    currency: str


class OrderPaidSince1(Event, tag="order.paid", version=2, aliases=("order.paid", "order.payed")):
    order_id: str
    currency: str = "EUR"


def names(handlers: Handlers[Any], event_type: str) -> list[str]:
    return [handler.name for handler in handlers.matching(event_type)]


@pytest.mark.parametrize(
    ("pattern", "yes", "no"),
    [
        (
            "order.paid",
            ["order.paid"],
            ["order.paid ", "order.pai", "orderxpaid", "Order.Paid", ""],
        ),
        ("order.*", ["order.", "order.paid", "order.paid.twice"], ["order", "reorder.paid"]),
        ("*.paid", [".paid", "order.paid", "a.b.paid"], ["order.paid.", "paid"]),
        ("order.*.eu", ["order.paid.eu", "order..eu"], ["order.eu", "order.paid.us"]),
        ("*", ["", "order.paid", "\n", "a\nb"], []),
        ("a*", ["a\nb"], ["\na"]),
        ("", [""], ["a"]),
        # Only the star is special.
        ("o.der?[p]+", ["o.der?[p]+"], ["order", "o.der?p"]),
        ("(.*", ["(.paid"], ["order.paid"]),
    ],
)
def test_a_star_stands_for_any_text_and_everything_else_for_itself(
    pattern: str, yes: list[str], no: list[str]
) -> None:
    handlers = Handlers()
    handlers.on(pattern)(handle)
    handlers.ignore(pattern)

    assert all(handlers.matching(event_type) and handlers.ignores(event_type) for event_type in yes)
    assert not any(
        handlers.matching(event_type) or handlers.ignores(event_type) for event_type in no
    )


@given(st.text(st.characters(exclude_characters="*")), st.text(), st.text(), st.text())
def test_any_text_matches_itself_and_any_pattern_made_from_it(
    middle: str, before: str, after: str, other: str
) -> None:
    handlers = Handlers()
    handlers.on(middle, name="exact")(handle)
    handlers.on(f"*{middle}*", name="around")(handle)

    assert names(handlers, middle) == ["exact", "around"]
    assert "around" in names(handlers, before + middle + after)
    assert ("exact" in names(handlers, other)) == (other == middle)


@given(st.text("ab*\n", max_size=8), st.text("ab\n", max_size=10))
def test_a_pattern_means_what_a_regular_expression_would(pattern: str, text: str) -> None:
    expression = ".*".join(map(re.escape, pattern.split("*")))

    expected = re.fullmatch(expression, text, re.DOTALL) is not None

    assert matches_pattern(pattern, text) == expected


class ReadText(str):
    """A text that counts how many of its characters were searched."""

    searched = 0

    def find(
        self, part: str, start: SupportsIndex | None = None, end: SupportsIndex | None = None, /
    ) -> int:
        found = super().find(part, start, end)
        first = 0 if start is None else int(start)
        last = len(self) if end is None else int(end)
        self.searched += (last if found < 0 else found + len(part)) - first
        return found


@pytest.mark.parametrize(
    "pattern",
    ["*.*.*.*.created", "*.*.*.*.created*", "*..*..*..*..created*.", "*." * 60 + "created"],
)
def test_whatever_the_pattern_is_each_character_of_a_type_is_searched_once(pattern: str) -> None:
    text = ReadText("." * 100_000)

    assert not matches_pattern(pattern, text)

    assert text.searched <= len(text)


def test_every_handler_that_matches_is_found_in_the_order_of_registration() -> None:
    handlers = Handlers()
    handlers.on("*", name="all")(handle)
    handlers.on(OrderPaid, name="typed")(handle)
    handlers.on(OrderLost, name="other")(handle)
    handlers.on("order.*", name="orders")(handle)

    assert names(handlers, "order.paid") == ["all", "typed", "orders"]
    assert names(handlers, "") == ["all"]


def test_a_class_receives_its_earlier_names_too_and_each_message_once() -> None:
    handlers = Handlers()
    handlers.on("order.*", name="orders")(handle)
    handlers.on(OrderPaidSince1, name="since_1")(handle)
    handlers.on(OrderPaid, name="first")(handle)
    handlers.on("order.payed", name="misspelt")(handle)

    assert names(handlers, "order.paid.v2") == ["orders", "since_1"]
    assert names(handlers, "order.paid") == ["orders", "since_1", "first"]
    assert names(handlers, "order.payed") == ["orders", "since_1", "misspelt"]
    assert names(handlers, "order.paid.v3") == ["orders"]
    assert names(handlers, "order") == []


def test_two_versions_live_side_by_side_and_each_handler_gets_its_own() -> None:
    handlers = Handlers()
    handlers.on(OrderPaid, name="first")(handle)
    handlers.on(OrderPaid2, name="second")(handle)
    first = OrderPaid(order_id="A")
    second = OrderPaid2(order_id="A", currency="USD")

    for event, name in ((first, "first"), (second, "second")):
        body = b'{"type": "%b", "data": %b}' % (type(event).tag.encode(), event.to_data())
        (handler,) = handlers.matching(type(event).tag)
        assert (handler.name, handler.read(message(body))) == (name, event)


def test_a_version_that_names_the_one_before_it_reads_its_messages() -> None:
    handlers = Handlers()
    handlers.on(OrderPaidSince1)(handle)
    body = b'{"type": "order.paid", "data": %b}' % OrderPaid(order_id="A").to_data()

    (handler,) = handlers.matching("order.paid")

    assert handler.read(message(body)) == OrderPaidSince1(order_id="A", currency="EUR")


def test_an_alias_that_is_also_ignored_is_still_handled() -> None:
    handlers = Handlers()
    handlers.ignore("order.payed", "order.paid.*")
    handlers.on(OrderPaidSince1)(handle)

    assert names(handlers, "order.payed") == names(handlers, "order.paid.v2") == ["handle"]
    assert handlers.ignores("order.payed")


def test_handlers_are_listed_in_the_order_of_registration() -> None:
    handlers = Handlers()
    handlers.on(OrderLost, name="b")(handle)
    handlers.on("*", name="a")(handle)

    assert [(handler.name, handler.event) for handler in handlers] == [
        ("b", OrderLost),
        ("a", None),
    ]


def test_a_handler_registered_late_is_found_although_its_type_was_looked_up_before() -> None:
    handlers = Handlers()
    assert names(handlers, "order.paid") == []

    handlers.on(OrderPaid)(handle)

    assert names(handlers, "order.paid") == ["handle"]


def test_event_types_that_strangers_send_do_not_fill_the_memory() -> None:
    handlers = Handlers()
    handlers.on("*")(handle)

    for number in range(10_000):
        handlers.matching(f"type-{number}")

    assert handlers.matching.cache_info().currsize == 4096


def test_only_named_event_types_are_ignored() -> None:
    handlers = Handlers()
    handlers.ignore("push", "ping.*")
    handlers.ignore("star")

    assert [handlers.ignores(name) for name in ("push", "ping.1", "star", "pong")] == [
        True,
        True,
        True,
        False,
    ]
    assert len(handlers) == 0


def test_a_typed_handler_reads_the_event_and_one_of_a_pattern_the_raw_message() -> None:
    handlers = Handlers()
    handlers.on(OrderPaid, name="typed")(handle)
    handlers.on("order.paid", name="raw")(handle)
    typed, raw = handlers.matching("order.paid")
    good, bad = message(b'{"order_id": "A"}'), message(b"{}")

    assert typed.read(good) == OrderPaid(order_id="A")
    assert raw.read(good) is good
    assert raw.read(bad) is bad
    with pytest.raises(DecodeError):
        typed.read(bad)


def test_the_decorator_returns_the_same_function() -> None:
    handlers = Handlers()

    assert handlers.on(OrderPaid)(handle) is handle
    assert handlers.on("*", name="again")(handle) is cast("object", handle)
    assert handlers.matching("order.paid")[0].function is handle
