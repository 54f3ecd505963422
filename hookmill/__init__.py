"""Hookmill: webhooks in, work done. These are the names a user's code imports."""

from typing import TYPE_CHECKING, Any

from hookmill.errors import HookmillError, SendError
from hookmill.events import Event
from hookmill.handlers import Backoff, Delivery, Discard, Handlers, Retry
from hookmill.message import Message
from hookmill.sending.outgoing import FlowControl, Outgoing, Published, Redact
from hookmill.sending.persistence import Persistence

if TYPE_CHECKING:
    from hookmill.sender import Sender

__all__ = [
    "Backoff",
    "Delivery",
    "Discard",
    "Event",
    "FlowControl",
    "Handlers",
    "HookmillError",
    "Message",
    "Outgoing",
    "Persistence",
    "Published",
    "Redact",
    "Retry",
    "SendError",
    "Sender",
]


def __getattr__(name: str) -> Any:
    # An HTTP client and the settings take most of an import's time, and handlers need neither.
    if name == "Sender":
        from hookmill.sender import Sender  # noqa: PLC0415 - see above

        return Sender
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
