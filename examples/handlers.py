"""Handlers for `hookmill worker handlers:handlers`, run in this folder."""

from hookmill import Delivery, Event, Handlers
from hookmill.catalog.marble import PostPublished


class OrderPaid(Event, tag="order.paid"):
    order_id: str
    amount: int


handlers = Handlers()


@handlers.on(OrderPaid, attempts=8, timeout=30)
async def send_receipt(delivery: Delivery[OrderPaid]) -> None:
    print(f"receipt for {delivery.event.order_id}, idempotency key {delivery.id}")


@handlers.on(PostPublished)
def rebuild_page(delivery: Delivery[PostPublished]) -> None:
    print(f"rebuilding /{delivery.event.slug}")
