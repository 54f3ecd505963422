"""The table of handlers: which one runs for an event, and what is refused at registration."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hookmill import (
    Backoff,
    Dead,
    Delivery,
    Discard,
    Event,
    GivenUp,
    Handlers,
    HookmillError,
    Retry,
)
from hookmill.errors import DecodeError, HandlersError
from hookmill.handlers import MAX_DELAY, Handler
from tests.support import message

if TYPE_CHECKING:
    from decimal import Decimal as Price  # like an import that is missing at run time


class OrderPaid(Event, tag="order.paid"):
    order_id: str


class OrderLost(Event, tag="order.lost"):
    order_id: str


class OrderPaid2(Event, tag="order.paid", version=2):
    order_id: str
    currency: str


class OrderPaidSince1(Event, tag="order.paid", version=2, aliases=("order.paid", "order.payed")):
    order_id: str
    currency: str = "EUR"


async def handle(delivery: Delivery[Any]) -> None:
    """Does nothing, so that a test can register it."""


def handle_in_thread(delivery: Delivery[Any]) -> None:
    """The same as a plain function."""


@asynccontextmanager
async def lifespan() -> AsyncIterator[int]:
    yield 7


def registered(function: Callable[..., Any], name: str | None = None) -> Handler:
    """Return the handler that the table makes of a function."""
    handlers = Handlers()
    handlers.on("*", name=name)(function)
    (handler,) = handlers.matching("any")
    return handler


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


def test_options_are_kept_and_have_sound_defaults() -> None:
    handlers = Handlers()
    handlers.on(OrderPaid)(handle)
    handlers.on(OrderLost, name="n", attempts=1, timeout=0.5, backoff=Backoff(first=9))(handle)
    plain, chosen = handlers.named("handle"), handlers.named("n")

    assert plain is not None
    assert (plain.attempts, plain.timeout, plain.backoff) == (8, 30.0, Backoff(2.0, 3.0, 3600.0))
    assert chosen is not None
    assert (chosen.attempts, chosen.timeout, chosen.backoff) == (1, 0.5, Backoff(first=9))
    assert handlers.named("nobody") is None


def test_two_handlers_of_one_name_are_refused_because_their_retries_would_be_mixed_up() -> None:
    handlers = Handlers()
    handlers.on(OrderPaid)(handle)

    with pytest.raises(HandlersError, match=r"two handlers are named 'handle'.*on\(\.\.\., name="):
        handlers.on(OrderLost)(handle)

    handlers.on(OrderLost, name="handle_lost")(handle)
    assert len(handlers) == 2


def test_a_renamed_handler_is_found_by_its_earlier_names() -> None:
    handlers = Handlers()
    handlers.on(OrderPaid, name="book", aliases=("pay", "book_order"))(handle)
    book = handlers.named("book")

    assert book is not None
    assert handlers.named("pay") is handlers.named("book_order") is book
    assert names(handlers, "order.paid") == ["book"]
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


class Callable1:
    async def __call__(self, delivery: Delivery[Any]) -> None: ...

    async def method(self, delivery: Delivery[Any]) -> None: ...

    def method_in_thread(self, delivery: Delivery[Any], resources: int) -> None: ...

    @staticmethod
    async def static(delivery: Delivery[Any]) -> None: ...

    @classmethod
    async def of_class(cls, delivery: Delivery[Any], resources: int) -> None: ...


async def with_resources(delivery: Delivery[Any], resources: int) -> None: ...


async def told_with_resources(given_up: GivenUp, resources: int) -> None: ...


async def with_option(delivery: Delivery[Any], *, dry_run: bool = False) -> None: ...


async def with_default(
    delivery: Delivery[Any], retries: int = 3, *more: int, **named: int
) -> None: ...


async def positional_only(delivery: Delivery[Any], resources: int, /) -> None: ...


def passing_on(function: Callable[..., Any]) -> Callable[..., Any]:
    """A plain decorator. What it returns can be awaited if the result of the function can."""

    @functools.wraps(function)
    def inner(*given: Any, **named: Any) -> Any:
        return function(*given, **named)

    return inner


def made_async(function: Callable[..., Any]) -> Callable[..., Awaitable[None]]:
    """An async decorator around a plain function."""

    @functools.wraps(function)
    async def inner(*given: Any) -> None:
        function(*given)

    return inner


def giving_resources(function: Callable[..., Any]) -> Callable[[Delivery[Any]], Awaitable[None]]:
    """A decorator that passes the second argument itself."""

    @functools.wraps(function)
    async def inner(delivery: Delivery[Any]) -> None:
        await function(delivery, 7)

    return inner


@pytest.mark.parametrize(
    ("function", "is_async", "takes_resources"),
    [
        (handle, True, False),
        (handle_in_thread, False, False),
        (with_resources, True, True),
        (with_option, True, False),
        (with_default, True, False),
        (positional_only, True, True),
        (Callable1(), True, False),
        (Callable1().method, True, False),
        (Callable1().method_in_thread, False, True),
        (Callable1.static, True, False),
        (Callable1.of_class, True, True),
        (functools.partial(with_resources, resources=7), True, False),
        (functools.partial(handle_in_thread), False, False),
        (functools.partial(functools.partial(Callable1())), True, False),
        (passing_on(with_resources), True, True),
        (passing_on(handle_in_thread), False, False),
        (made_async(handle_in_thread), True, False),
        (passing_on(made_async(handle_in_thread)), True, False),
        (giving_resources(with_resources), True, False),
    ],
)
def test_wrappers_do_not_hide_whether_a_handler_is_async_and_takes_resources(
    function: Callable[..., Any], is_async: bool, takes_resources: bool
) -> None:
    handler = registered(function, name="h")

    assert (handler.is_async, handler.takes_resources) == (is_async, takes_resources)


async def no_parameter() -> None: ...


async def three_parameters(delivery: Delivery[Any], resources: int, more: int) -> None: ...


async def required_option(delivery: Delivery[Any], *, dry_run: bool) -> None: ...


async def anything(*given: Any) -> None: ...


async def async_generator(delivery: Delivery[Any]) -> AsyncIterator[None]:
    yield


def generator(delivery: Delivery[Any]) -> Any:
    yield


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (no_parameter, r"'no_parameter' takes \(\)"),
        (three_parameters, r"'three_parameters' takes \(delivery: .* more: 'int'\)"),
        (required_option, "'required_option' takes .*give it one parameter for the delivery"),
        (anything, r"'anything' takes \(\*given"),
        (generator, "'generator' is a generator, so its body would never run"),
        (async_generator, "'async_generator' is a generator"),
        (functools.partial(generator), r"partial\(<.*>\) is a generator"),
        (asynccontextmanager(async_generator), "'async_generator' is a generator"),
    ],
)
def test_a_function_that_cannot_be_called_with_a_delivery_is_refused(
    function: Callable[..., Any], said: str
) -> None:
    with pytest.raises(HandlersError, match=said):
        registered(function, name="h")


@pytest.mark.parametrize("function", [Callable1(), functools.partial(handle)])
def test_a_handler_without_a_name_of_its_own_must_be_given_one(
    function: Callable[..., Any],
) -> None:
    with pytest.raises(HandlersError, match=r"has no name of its own: give it on\(\.\.\., name="):
        registered(function)


@pytest.mark.parametrize(
    ("event", "options", "said"),
    [
        (Event, {}, "Event has no name on the wire"),
        (OrderPaid, {"attempts": 0}, "attempts=0 for 'order.paid': give 1 or more"),
        ("order.*", {"timeout": 0}, r"timeout=0 for 'order.\*': give more than 0 and at most"),
        (OrderPaid, {"timeout": -1.0}, "timeout=-1.0"),
        (OrderPaid, {"timeout": float("inf")}, "timeout=inf"),
        (OrderPaid, {"timeout": float("nan")}, "timeout=nan"),
        (OrderPaid, {"aliases": "old"}, "aliases='old' for 'order.paid': give a tuple of earlier"),
        (OrderPaid, {"aliases": ["old"]}, "give a tuple of earlier names"),
        (OrderPaid, {"aliases": ("",)}, "give a tuple of earlier names"),
        (OrderPaid, {"aliases": (5,)}, "give a tuple of earlier names"),
        # The decorator without its parentheses, and values that are not event classes.
        (handle, {}, r"on\(<function handle .*>\): give an event class, or a name or pattern"),
        (int, {}, "give an event class"),
        (OrderPaid(order_id="A"), {}, "give an event class"),
        (b"order.paid", {}, "give an event class"),
    ],
)
def test_a_wrong_event_or_option_is_refused_at_once(
    event: Any, options: dict[str, Any], said: str
) -> None:
    with pytest.raises(HandlersError, match=said):
        Handlers().on(event, **options)


def test_a_check_finds_faults_that_show_only_after_every_declaration() -> None:
    class Later(Event, tag="later"):
        price: Price

    handlers = Handlers()
    handlers.on(Later)(handle)
    with pytest.raises(HandlersError, match=r"the fields of Later cannot be decoded: .*'Price'"):
        handlers.check()

    handlers = Handlers()
    handlers.on(OrderPaid)(with_resources)  # type: ignore[arg-type] # what the test is about
    with pytest.raises(HandlersError, match="'with_resources' takes a second parameter, but there"):
        handlers.check()

    handlers = Handlers()
    handlers.on_dead(told_with_resources)  # type: ignore[arg-type] # what the test is about
    with pytest.raises(HandlersError, match="'told_with_resources' takes a second parameter"):
        handlers.check()

    having = Handlers(lifespan)
    having.on(OrderPaid)(with_resources)
    assert having.on_dead(told_with_resources) is told_with_resources
    having.check()


def test_a_lifespan_that_is_no_context_manager_is_refused() -> None:
    async def bare() -> AsyncIterator[int]:
        yield 7

    with pytest.raises(HandlersError, match="the lifespan 'bare' is a plain generator"):
        Handlers(cast("Any", bare))

    assert Handlers(lifespan).lifespan is lifespan
    assert Handlers().lifespan is None


def test_middlewares_are_kept_in_their_order_and_returned() -> None:
    handlers = Handlers()

    async def outer(delivery: Delivery[Any], call_next: Any) -> None:
        await call_next(delivery)

    async def inner(delivery: Delivery[Any], call_next: Any) -> None:
        await call_next(delivery)

    assert handlers.middleware(outer) is outer
    assert handlers.middleware(inner) is inner
    assert handlers.middlewares == [outer, inner]


def test_a_delivery_shows_its_id_its_event_and_its_attempt_but_not_the_body() -> None:
    raw = message(b"a secret", id="msg_1", type="order.paid")
    delivery = Delivery(OrderPaid(order_id="A"), raw, 3)

    assert (delivery.id, delivery.attempt, delivery.event.order_id) == ("msg_1", 3, "A")
    assert delivery.message is raw
    assert repr(delivery) == "<Delivery msg_1 order.paid attempt 3>"


@pytest.mark.parametrize(
    ("after", "seconds"),
    [(0, 0.0), (60, 60.0), (0.5, 0.5), (timedelta(minutes=2), 120.0), (MAX_DELAY, 31_622_400.0)],
)
def test_retry_waits_for_seconds_or_a_timedelta(after: float | timedelta, seconds: float) -> None:
    assert Retry(after=after).after == seconds


def test_retry_waits_half_a_minute_by_default() -> None:
    asked = Retry()

    assert (asked.after, asked.reason, str(asked)) == (30.0, "", "asked to wait 30 s")
    assert str(Retry(5, "mailer is down")) == "mailer is down"


@pytest.mark.parametrize(
    "after", [-1, -0.001, MAX_DELAY + 1, float("inf"), float("nan"), timedelta(seconds=-1)]
)
def test_a_retry_in_the_past_or_beyond_the_limit_is_refused(after: float | timedelta) -> None:
    with pytest.raises(ValueError, match="give 0 to 31622400 seconds"):
        Retry(after=after)


def test_retry_and_discard_are_not_hookmill_errors_and_show_their_reason() -> None:
    assert not isinstance(Retry(), HookmillError)
    assert not isinstance(Discard("x"), HookmillError)
    assert (Discard("not for us").reason, str(Discard("not for us"))) == (
        "not for us",
        "not for us",
    )


def test_the_default_backoff_is_the_documented_one() -> None:
    bounds = [Backoff().bound(failures) for failures in range(1, 10)]

    assert bounds == [2.0, 6.0, 18.0, 54.0, 162.0, 486.0, 1458.0, 3600.0, 3600.0]


BACKOFFS = st.builds(
    Backoff,
    first=st.floats(0, 1e308),
    factor=st.floats(1, 1e308) | st.integers(1, 10**400),
    ceiling=st.floats(0, MAX_DELAY) | st.integers(0, MAX_DELAY),
)
FAILURES = st.integers(1, 5000)


@given(BACKOFFS, FAILURES)
def test_a_wait_is_never_below_zero_nor_above_its_bound_nor_the_ceiling(
    backoff: Backoff, failures: int
) -> None:
    assert 0 <= backoff.wait(failures) <= backoff.bound(failures) <= backoff.ceiling


@given(BACKOFFS, FAILURES)
def test_the_bound_never_falls_with_more_failures(backoff: Backoff, failures: int) -> None:
    assert backoff.bound(failures) <= backoff.bound(failures + 1)


@given(st.floats(1, 1e308), FAILURES)
def test_a_backoff_that_begins_at_zero_never_waits(factor: float, failures: int) -> None:
    assert Backoff(first=0, factor=factor).wait(failures) == 0


def test_waits_are_spread_over_the_whole_of_their_bound() -> None:
    waits = [Backoff(first=10).wait(1) for _ in range(1000)]

    assert min(waits) < 1
    assert max(waits) > 9


@pytest.mark.parametrize(
    "fields",
    [
        {"first": -1},
        {"first": float("nan")},
        {"factor": 0.5},
        {"factor": float("nan")},
        {"ceiling": -1},
        {"ceiling": float("nan")},
        {"ceiling": float("inf")},
        {"ceiling": MAX_DELAY + 1},
    ],
)
def test_a_backoff_with_impossible_numbers_is_refused(fields: dict[str, float]) -> None:
    with pytest.raises(
        HandlersError, match="give first of 0 or more, factor of 1 or more, and ceiling"
    ):
        Backoff(**fields)


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
