"""What type checkers accept of a user's code, and what they refuse: the lines marked `# error`.
`# error (pyright)` is one that only pyright can see; when it runs, Hookmill refuses it itself.

Never run, only checked, by `tests/test_typing.py`.
"""

# Long because: type checkers read it as one program of a user.

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, assert_type

from msgspec import UnsetType

from hookmill import (
    Backoff,
    Dead,
    Delivery,
    Discard,
    Event,
    FlowControl,
    GivenUp,
    Handlers,
    Message,
    Outgoing,
    Published,
    Redact,
    Retry,
    RetryPolicy,
    Sender,
    SendError,
)
from hookmill.catalog.marble import MarbleEvent, PostPublished


class OrderPaid(Event, tag="order.paid"):
    order_id: str
    amount: int = 0


class RefundPaid(OrderPaid, tag="refund.paid"):
    reason: str


class OrderPaidAgain(Event, tag="order.paid", aliases=("order.payed",), version=2):
    order_id: str
    paid_at: str
    version: str
    """A field of its own: the event's version is the class's."""


class Site:
    """What the lifespan yields."""

    async def rebuild(self, slug: str) -> None: ...


@asynccontextmanager
async def lifespan() -> AsyncGenerator[Site]:
    yield Site()


plain = Handlers()
having = Handlers(lifespan)

assert_type(plain, Handlers[None])
assert_type(having, Handlers[Site])

Handlers(Site)  # error
Handlers(5)  # error


# What a handler may look like.


@plain.on(OrderPaid)
async def with_delivery(delivery: Delivery[OrderPaid]) -> None:
    assert_type(delivery.event, OrderPaid)
    assert_type(delivery.event.order_id, str)
    assert_type(delivery.message, Message)
    assert_type((delivery.id, delivery.attempt), tuple[str, int])


@plain.on(OrderPaid, name="n", attempts=3, timeout=5, backoff=Backoff(first=1, ceiling=60))
def in_a_thread(delivery: Delivery[OrderPaid]) -> int:
    return delivery.event.amount


@having.on(PostPublished)
async def with_resources(delivery: Delivery[PostPublished], site: Site) -> None:
    assert_type(delivery.event.title, str | UnsetType)
    await site.rebuild(delivery.event.id)


@having.on(PostPublished)
def with_resources_in_a_thread(delivery: Delivery[PostPublished], site: Site) -> None:
    assert_type(site, Site)


@having.on(PostPublished)
async def without_resources(delivery: Delivery[PostPublished]) -> None: ...


@having.on("post.*")
async def of_a_pattern(delivery: Delivery[Message], site: Site) -> None:
    assert_type(delivery.event, Message)
    assert_type(delivery.event.body, bytes)
    assert_type(delivery.event.headers["x"], str)


@having.on("post.*", attempts=1)
def of_a_pattern_in_a_thread(delivery: Delivery[Message]) -> None: ...


@having.on(PostPublished)
async def of_a_base(delivery: Delivery[MarbleEvent], site: object) -> None: ...


async def of_two_events(delivery: Delivery[OrderPaid | PostPublished]) -> None: ...


having.on(OrderPaid, name="of_order")(of_two_events)
having.on(PostPublished, name="of_post")(of_two_events)


@plain.on(OrderPaid)
async def of_anything(delivery: Delivery[Any]) -> None: ...


class Service:
    """Handlers need not be functions."""

    async def handle(self, delivery: Delivery[OrderPaid], site: Site) -> None: ...

    async def __call__(self, delivery: Delivery[OrderPaid]) -> None: ...


having.on(OrderPaid)(Service().handle)
having.on(OrderPaid, name="service")(Service())


@having.middleware
async def timing(
    delivery: Delivery[Any], call_next: Callable[[Delivery[Any]], Awaitable[None]]
) -> None:
    await call_next(delivery)


@plain.on_dead
async def told(given_up: GivenUp) -> None:
    assert_type(given_up.message, Message | None)
    assert_type((given_up.reason, given_up.attempts), tuple[str, int])


@plain.on_dead
def told_in_a_thread(given_up: GivenUp) -> int:
    return given_up.attempts


@having.on_dead
async def told_with_resources(given_up: GivenUp, site: Site) -> None:
    assert_type(site, Site)


# What the decorator gives back.

Async = Coroutine[Any, Any, None]


async def call_directly(delivery: Delivery[OrderPaid], post: Delivery[PostPublished]) -> None:
    assert_type(in_a_thread(delivery), int)
    await with_delivery(delivery)
    await with_resources(post, Site())
    await of_two_events(delivery)
    await of_two_events(post)
    taken: Callable[[Delivery[OrderPaid]], Async] = with_delivery
    await taken(delivery)
    await with_delivery(post)  # error
    await with_resources(post)  # error
    await with_resources(post, 5)  # error


# What is refused: another event, another resource, another signature.


@plain.on(OrderPaid)  # error
async def another_event(delivery: Delivery[PostPublished]) -> None: ...


@plain.on(OrderPaid)  # error
def another_event_in_a_thread(delivery: Delivery[PostPublished]) -> None: ...


@plain.on(RefundPaid)
@plain.on(OrderPaid)  # error
async def an_event_below(delivery: Delivery[RefundPaid]) -> None: ...


@plain.on(OrderPaid)  # error
async def another_version(delivery: Delivery[OrderPaidAgain]) -> None: ...


@plain.on(OrderPaidAgain)
async def its_own_version(delivery: Delivery[OrderPaidAgain]) -> None: ...


@plain.on(OrderPaid)  # error
async def the_event_itself(event: OrderPaid) -> None: ...


@plain.on(OrderPaid)  # error
async def the_message_of_a_typed_one(delivery: Delivery[Message]) -> None: ...


@plain.on("order.paid")  # error
async def the_event_of_a_pattern(delivery: Delivery[OrderPaid]) -> None: ...


@having.on(OrderPaid)  # error
async def another_resource(delivery: Delivery[OrderPaid], site: int) -> None: ...


@having.on(OrderPaid)  # error
def another_resource_in_a_thread(delivery: Delivery[OrderPaid], site: int) -> None: ...


@having.on("post.*")  # error
async def another_resource_of_a_pattern(delivery: Delivery[Message], site: int) -> None: ...


@plain.on(OrderPaid)  # error
async def resources_that_nobody_yields(delivery: Delivery[OrderPaid], site: Site) -> None: ...


@plain.on(OrderPaid)  # error
async def nothing_taken() -> None: ...


@having.on(OrderPaid)  # error
async def too_much_taken(delivery: Delivery[OrderPaid], site: Site, more: int) -> None: ...


@having.on(OrderPaid)  # error
async def an_option_nobody_gives(delivery: Delivery[OrderPaid], *, dry_run: bool) -> None: ...


@plain.on  # error
async def no_event_at_all(delivery: Delivery[OrderPaid]) -> None: ...


plain.on(int)  # error
plain.on(OrderPaid, attempts="8")  # error
plain.on(OrderPaid, timeout=timedelta(seconds=5))  # error
plain.on(OrderPaid, backoff=5)  # error
plain.on(OrderPaid, tries=8)  # error
plain.on(OrderPaid, aliases=("old", "older"), retry_on=(OSError,), dead_on=(ValueError, KeyError))
plain.on("order.*", aliases=("old",), retry_on=(BaseException,), dead_on=(SystemExit,))
plain.on(OrderPaid, aliases="old")  # error
plain.on(OrderPaid, retry_on=OSError)  # error
plain.on(OrderPaid, dead_on=(int,))  # error
plain.on("order.*", dead_on=(ValueError(),))  # error
plain.on(OrderPaid)(5)  # error
plain.ignore(OrderPaid)  # error
plain.ignore("push", "ping.*")


@having.middleware  # error
async def a_middleware_without_the_next(delivery: Delivery[Any]) -> None: ...


@plain.on_dead  # error
async def told_of_a_delivery(delivery: Delivery[Any]) -> None: ...


@having.on_dead  # error
async def told_with_another_resource(given_up: GivenUp, site: int) -> None: ...


@plain.on_dead  # error
async def told_nothing() -> None: ...


# Events.

OrderPaid(order_id="A", amount=1)
OrderPaid(order_id="A")
RefundPaid(order_id="A", reason="late")
OrderPaid("A")  # error
OrderPaid(amount=1)  # error
OrderPaid(order_id=1)  # error
OrderPaid(order_id="A", total=1)  # error


OrderPaidAgain(order_id="A", paid_at="now", version="7")
OrderPaidAgain(order_id="A", version="7")  # error
OrderPaidAgain(order_id="A", paid_at=5, version="7")  # error
OrderPaidAgain(order_id="A", paid_at="now", version=7)  # error
PostPublished(id="p1", title="Hello")
PostPublished(title="Hello")  # error
PostPublished(id="p1", title=7)  # error
PostPublished(id="p1", titel="Hello")  # error
PostPublished("p1")  # error


# The names on the wire. mypy does not look at what a class statement gives its metaclass.


class WrongAliases(Event, tag="wrong", aliases=["old"]): ...  # error (pyright)


class WrongAlias(Event, tag="wrong", aliases=(5,)): ...  # error (pyright)


class BareAlias(Event, tag="wrong", aliases="old"): ...  # error (pyright)


class WrongVersion(Event, tag="wrong", version="2"): ...  # error (pyright)


class WrongTag(Event, tag=5): ...  # error (pyright)


def look(event: OrderPaid, refund: RefundPaid, message: Message) -> None:
    assert_type(OrderPaid.tag, str)
    assert_type(event.tag, str)
    assert_type(OrderPaid.aliases, tuple[str, ...])
    assert_type(OrderPaid.names, tuple[str, ...])
    assert_type(OrderPaid.version, int)
    assert_type(event.to_data(), bytes)
    assert_type(OrderPaid.from_message(message), OrderPaid)
    assert_type(RefundPaid.from_message(message).order_id, str)
    assert_type(event.total, int)  # error
    event.amount = 5  # error
    OrderPaid.version = 2  # error
    refund.reason = "x"  # error
    message.body = b""  # error


# The control words.


def steer() -> None:
    raise Retry(after=60, reason="down")


def steer_by_timedelta() -> None:
    raise Retry(after=timedelta(minutes=1))


Retry(after="60")  # error
Discard("not ours")
Discard()  # error
Dead("no such account")
Dead()  # error
Dead(5)  # error
Backoff(first="1")  # error


# Sending.

URL = "https://app.example/hook"
PAID = OrderPaid(order_id="1")


async def send(sender: Sender) -> None:
    delayed = await sender.send(URL, PAID, delay="10m", retries=5, headers={"A": "b"})
    assert_type(delayed, Published)
    group = await sender.send_to_group("site", b"raw", not_before=datetime.now(UTC))
    assert_type(group, list[Published])
    many = await sender.send_many([Outgoing(URL, {"a": 1}, delay=timedelta(1), queue="q")])
    assert_type(many, list[Published | SendError])
    queued = await sender.enqueue("q", URL, PAID, timeout=5, redact=Redact(headers=["a"]))
    assert_type(queued, Published)
    limits = FlowControl(key="k", rate=1)
    schedule = await sender.schedules.create(URL, PAID, cron="* * * * *", flow_control=limits)
    assert_type(schedule, str)
    async with Sender(direct=True, retry_policy=RetryPolicy(attempts=3)) as direct:
        assert_type(direct, Sender)
    await sender.send(URL, PAID, dealy="10m")  # error
    await sender.send(URL, OrderPaid())  # error
    await sender.send(URL, "text")  # error
    await sender.send(URL, PAID, retries="5")  # error
    await sender.send(URL, PAID, method="post")  # error
    await sender.send(URL, PAID, queue="q")  # error
    await sender.enqueue("q", URL, PAID, delay=5)  # error
    await sender.schedules.create(URL, PAID)  # error
    await sender.schedules.create(URL, PAID, cron="x", deduplication_id="1")  # error
    Outgoing(URL, PAID, labels="x")  # error
    Outgoing(URL)  # error
    FlowControl(rate=1)  # error
    RetryPolicy(5)  # error
    Sender("token")  # error
    assert_type(delayed.message, str)  # error
