"""Hookmill: webhooks in, work done. These are the names a user's code imports."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from hookmill.errors import HookmillError, SendError
from hookmill.events import Event
from hookmill.handlers import Backoff, Delivery, Discard, Handlers, Retry
from hookmill.message import Message

if TYPE_CHECKING:
    from hookmill.sender import Sender
    from hookmill.sending.outgoing import FlowControl, Outgoing, Published, Redact
    from hookmill.sending.persistence import Persistence

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


_OF_SENDING = {
    "Sender": "hookmill.sender",
    **dict.fromkeys(
        ["FlowControl", "Outgoing", "Published", "Redact"], "hookmill.sending.outgoing"
    ),
    "Persistence": "hookmill.sending.persistence",
}


def __getattr__(name: str) -> Any:
    # An HTTP client and the settings take most of an import's time, and handlers need neither.
    if name in _OF_SENDING:
        return getattr(import_module(_OF_SENDING[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
