"""What an attempt can come to, as values. `settlement` turns each into what is written."""

from __future__ import annotations

import msgspec

from hookmill.message import Progress


class Done(msgspec.Struct, frozen=True):
    """The handler succeeded."""

    handler: str


class Ignored(msgspec.Struct, frozen=True):
    """The event type was named as one to be ignored."""


class Discarded(msgspec.Struct, frozen=True):
    """The handler finished the message without success."""

    handler: str
    reason: str


class FannedOut(msgspec.Struct, frozen=True):
    """Several handlers match; from here each has an entry of its own."""

    progress: Progress
    handlers: tuple[str, ...]


class Again(msgspec.Struct, frozen=True):
    """To be run again `after` seconds. `error` is empty where waiting was asked for."""

    progress: Progress
    after: float
    reason: str
    error: str = ""


class DeadLettered(msgspec.Struct, frozen=True):
    """Given up: for the dead letters, with a short reason and the error in full."""

    progress: Progress
    reason: str
    error: str


class Requeued(msgspec.Struct, frozen=True):
    """Not run to its end, through no fault of its own: for another worker."""

    progress: Progress


Outcome = Done | Ignored | Discarded | FannedOut | Again | DeadLettered | Requeued
