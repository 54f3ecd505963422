"""Hookmill: webhooks in, work done. These are the names that a user's code imports."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hookmill.errors import AddressRefusedError, HookmillError, SendError
    from hookmill.events import Event
    from hookmill.handlers import Backoff, Dead, Delivery, Discard, Handlers, Retry
    from hookmill.message import GivenUp, Message
    from hookmill.sending.outgoing import FlowControl, Outgoing, Published, Redact
    from hookmill.sending.retry_policy import RetryPolicy
    from hookmill.sending.sender import Sender

__all__ = [
    "AddressRefusedError",
    "Backoff",
    "Dead",
    "Delivery",
    "Discard",
    "Event",
    "FlowControl",
    "GivenUp",
    "Handlers",
    "HookmillError",
    "Message",
    "Outgoing",
    "Published",
    "Redact",
    "Retry",
    "RetryPolicy",
    "SendError",
    "Sender",
]

_MODULES = {
    "errors": ("AddressRefusedError", "HookmillError", "SendError"),
    "events": ("Event",),
    "handlers": ("Backoff", "Dead", "Delivery", "Discard", "Handlers", "Retry"),
    "message": ("GivenUp", "Message"),
    "sending.sender": ("Sender",),
    "sending.outgoing": ("FlowControl", "Outgoing", "Published", "Redact"),
    "sending.retry_policy": ("RetryPolicy",),
}


def __getattr__(name: str) -> Any:
    # A name loads only its own module: the command line needs none of them, and handlers need
    # neither an HTTP client nor the settings, whose imports take the most time.
    for module, names in _MODULES.items():
        if name in names:
            found = globals()[name] = getattr(import_module(f"hookmill.{module}"), name)
            return found
    if name == "Persistence":
        # An ImportError, because Python replaces the text of an AttributeError in an import.
        raise ImportError("hookmill.Persistence is now called hookmill.RetryPolicy")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
