"""The samples of `hookmill dev`: events, handlers for them, and deliveries to send."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple

import structlog

from hookmill.catalog.marble import PostPublished, PostUpdated
from hookmill.catalog.qstash import DeliverySucceeded
from hookmill.events import Event
from hookmill.handlers import Backoff, Delivery, Handlers
from hookmill.message import Message

log = structlog.get_logger("samples")


class OrderPaid(Event, tag="order.paid"):
    """An event of the user's own, as an application would publish it through QStash."""

    order_id: str
    amount: int


class Site:
    """Stands for what handlers share in a real application: a database pool, an HTTP client."""

    async def rebuild(self, slug: str) -> None:
        """Pretend to rebuild a page."""
        await asyncio.sleep(0.05)
        log.info("page rebuilt", slug=slug)


@asynccontextmanager
async def lifespan() -> AsyncIterator[Site]:
    """Open what the handlers share, and close it when the worker ends."""
    yield Site()


handlers = Handlers(lifespan)


@handlers.on(OrderPaid)
async def send_receipt(delivery: Delivery[OrderPaid]) -> None:
    """Handle a typed event."""
    log.info("receipt sent", order=delivery.event.order_id, amount=delivery.event.amount)


@handlers.on(PostPublished)
async def rebuild_page(delivery: Delivery[PostPublished], site: Site) -> None:
    """Use the shared resources."""
    await site.rebuild(str(delivery.event.slug))


@handlers.on(PostPublished)
def purge_cache(delivery: Delivery[PostPublished]) -> None:
    """Run beside `rebuild_page`, in a thread, because this is a plain function."""
    log.info("cache purged", slug=delivery.event.slug)


@handlers.on(PostUpdated, backoff=Backoff(first=1.0))
async def reindex(delivery: Delivery[PostUpdated]) -> None:
    """Fail once, so that a retry can be seen."""
    if delivery.attempt == 1:
        raise ConnectionError("the search engine is not there yet")
    log.info("reindexed", post=delivery.event.id)


@handlers.on(DeliverySucceeded)
async def note_delivery(delivery: Delivery[DeliverySucceeded]) -> None:
    """Learn from QStash how the delivery of a published message went."""
    event = delivery.event
    log.info("QStash reports a delivery", message=event.source_message_id, status=event.status)


@handlers.on("*", name="log_greeting")
async def log_greeting(delivery: Delivery[Message]) -> None:
    """See every message, typed or not, as it came."""
    log.info("seen", bytes=len(delivery.message.body))


class Sample(NamedTuple):
    """A delivery to send, and the status with which it should be answered."""

    source: str
    body: bytes
    message_id: str
    says: str
    status: int = 200
    forged: bool = False


_ORDER = Sample(
    "qstash",
    b'{"type":"order.paid","order_id":"A-1001","amount":4200}',
    "msg_sample_order",
    "QStash delivers an event of your own, order.paid",
)

SAMPLES = (
    _ORDER,
    Sample(
        "marble",
        b'{"id":"evt_sample_1","type":"post.published","createdAt":"2026-11-21T09:30:00.000Z",'
        b'"workspaceId":"org_1","resource":{"type":"post","id":"post_1"},"actor":null,'
        b'"data":{"id":"post_1","title":"Hello","slug":"hello","status":"published"}}',
        "evt_sample_1",
        "Marble sends post.published; two handlers take it, besides the one for everything",
    ),
    Sample(
        "marble",
        b'{"event":"post.updated","data":{"id":"post_1","slug":"hello","title":"Hello again",'
        b'"userId":"user_1"}}',
        "msg_sample_old",
        "Marble's older generation sends post.updated; its handler fails once, then is retried",
    ),
    Sample("qstash", b'{"hello":"world"}', "msg_sample_hello", "a body without a type"),
    _ORDER._replace(says="the same message once more: accepted, then dropped as a duplicate"),
    Sample(
        "qstash",
        b'{"type":"order.paid","order_id":"A-6666","amount":0}',
        "msg_sample_forged",
        "a forged delivery, changed after it was signed: refused",
        status=401,
        forged=True,
    ),
)
