"""Event classes that several tests read and write."""

from __future__ import annotations

from datetime import datetime
from enum import Enum
from typing import Literal
from uuid import UUID

import msgspec
from msgspec import UNSET, UnsetType

from hookmill import Event


class OrderPaid(Event, tag="order.paid"):
    order_id: str
    amount: int = 0


class Named(Event, tag="named"):
    label: str = msgspec.field(name="tag")


class Price(msgspec.Struct, frozen=True):
    amount: int | float
    currency: Literal["EUR", "USD"] = "EUR"


class Channel(Enum):
    WEB = "web"
    SHOP = "shop"


class Everything(Event, tag="every thing", aliases=("all",), version=3, rename="camel"):
    """One field of each kind. Some have names with a meaning elsewhere, such as `version`."""

    order_id: str
    price_paid: Price
    at: datetime
    channel: Channel
    reference: UUID
    version: int
    type: str = ""
    names: tuple[str, ...] = ()
    aliases: tuple[str, int] = ("", 0)
    raw: bytes = b""
    note: str | UnsetType | None = UNSET
    prices: dict[str, Price] | None = None
    rows: list[list[bool]] | None = None
    earlier: tuple[Price, ...] | UnsetType = UNSET
    label: str | UnsetType = msgspec.field(default=UNSET, name="tag")


PAID = OrderPaid(order_id="A", amount=7)
