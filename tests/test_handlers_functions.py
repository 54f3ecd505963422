"""Which functions and options can be registered as a handler, and what is refused."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, cast

import pytest

from hookmill import Backoff, Delivery, Event, Handlers
from hookmill.errors import HandlersError
from hookmill.handlers import Handler

if TYPE_CHECKING:
    from decimal import Decimal as Price  # like an import that is missing at run time
from tests.handled import OrderLost, OrderPaid, handle


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


class Callable1:
    async def __call__(self, delivery: Delivery[Any]) -> None: ...

    async def method(self, delivery: Delivery[Any]) -> None: ...

    def method_in_thread(self, delivery: Delivery[Any], resources: int) -> None: ...

    @staticmethod
    async def static(delivery: Delivery[Any]) -> None: ...

    @classmethod
    async def of_class(cls, delivery: Delivery[Any], resources: int) -> None: ...


async def with_resources(delivery: Delivery[Any], resources: int) -> None: ...


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

    having = Handlers(lifespan)
    having.on(OrderPaid)(with_resources)
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
