"""What keeps handlers working while they change: earlier names, and dead letters on purpose."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from hookmill import Dead, GivenUp, Handlers, HookmillError
from hookmill.errors import HandlersError
from tests.handled import OrderLost, OrderPaid, handle

# --- earlier names --------------------------------------------------------------------------


def test_a_renamed_handler_is_found_by_its_earlier_names() -> None:
    handlers = Handlers()
    handlers.on(OrderPaid, name="book", aliases=("pay", "book_order"))(handle)
    book = handlers.named("book")

    assert book is not None
    assert handlers.named("pay") is handlers.named("book_order") is book
    assert handlers.matching("order.paid") == (book,)
    assert list(handlers) == [book]
    assert len(handlers) == 1


@pytest.mark.parametrize(
    ("name", "aliases", "taken"),
    [
        ("mail", ("book",), "book"),
        ("mail", ("send", "pay"), "pay"),
        ("pay", (), "pay"),
    ],
)
def test_an_alias_that_is_a_name_of_another_handler_is_refused(
    name: str, aliases: tuple[str, ...], taken: str
) -> None:
    handlers = Handlers()
    handlers.on(OrderPaid, name="book", aliases=("pay",))(handle)

    with pytest.raises(
        HandlersError,
        match=rf"'{taken}' is a name or an alias of two handlers, '{name}' and 'book': stored",
    ):
        handlers.on(OrderLost, name=name, aliases=aliases)(handle)

    assert len(handlers) == 1
    assert handlers.named("send") is None


@pytest.mark.parametrize("aliases", ["old", ["old"], ("",), (5,)])
def test_aliases_that_are_no_tuple_of_names_are_refused(aliases: Any) -> None:
    with pytest.raises(HandlersError, match=r"aliases=.* for 'order.paid': give a tuple of earl"):
        Handlers().on(OrderPaid, aliases=aliases)


# --- dead letters on purpose ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("no such account", "no such account"),
        (" two\n  lines\t", "two lines"),
        ("x" * 1000, "x" * 300),
        ("", "given_up"),
        ("\n", "given_up"),
        (KeyError("o1"), "'o1'"),
    ],
)
def test_the_reason_of_a_dead_letter_is_one_short_line(given: Any, kept: str) -> None:
    assert (Dead(given).reason, str(Dead(given))) == (kept, kept)
    assert not isinstance(Dead(given), HookmillError)


async def told_with_resources(given_up: GivenUp, resources: int) -> None: ...


def told_in_a_thread(given_up: GivenUp) -> None: ...


@asynccontextmanager
async def lifespan() -> AsyncIterator[int]:
    yield 7


def test_functions_that_watch_for_dead_letters_are_kept_in_their_order_and_returned() -> None:
    handlers = Handlers(lifespan)
    assert handlers.on_dead(told_with_resources) is told_with_resources
    assert handlers.on_dead(told_in_a_thread) is told_in_a_thread
    handlers.check()

    assert [(one.name, one.is_async, one.takes_resources) for one in handlers.dead_watchers] == [
        ("told_with_resources", True, True),
        ("told_in_a_thread", False, False),
    ]


def test_one_that_needs_what_no_lifespan_yields_is_refused_at_the_start() -> None:
    handlers = Handlers()
    handlers.on_dead(told_with_resources)  # type: ignore[arg-type] # what the test is about
    with pytest.raises(HandlersError, match="'told_with_resources' takes a second parameter"):
        handlers.check()


def test_one_that_takes_nothing_is_refused_at_once() -> None:
    async def told_nothing() -> None: ...

    with pytest.raises(HandlersError, match="give it one parameter"):
        Handlers().on_dead(told_nothing)  # type: ignore[arg-type] # what the test is about
