"""Events and handlers that several tests register."""

from __future__ import annotations

from typing import Any

from hookmill import Delivery, Event


class OrderPaid(Event, tag="order.paid"):
    order_id: str


class OrderLost(Event, tag="order.lost"):
    order_id: str


async def handle(delivery: Delivery[Any]) -> None:
    """Does nothing, so that a test can register it."""
