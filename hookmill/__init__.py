"""Hookmill: webhooks in, work done. These are the names a user's code imports."""

from hookmill.errors import HookmillError
from hookmill.events import Event
from hookmill.handlers import Backoff, Delivery, Discard, Handlers, Retry
from hookmill.message import Message

__all__ = [
    "Backoff",
    "Delivery",
    "Discard",
    "Event",
    "Handlers",
    "HookmillError",
    "Message",
    "Retry",
]
