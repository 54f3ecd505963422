"""The outcomes of an attempt, as values. `settlement` says for each what is written to Redis."""

from __future__ import annotations

import msgspec

from hookmill.message import Message, Progress
from hookmill.stream.entries import Kind, Told


class Done(msgspec.Struct, frozen=True, gc=False):
    """The handler succeeded."""

    handler: str

    def told(self) -> Told:
        """Return what a history keeps of it."""
        return Told("done", self.handler)


class Ignored(msgspec.Struct, frozen=True):
    """No handler matches, and the event type is listed as one to ignore."""

    def told(self) -> Told:
        """Return what a history keeps of it."""
        return Told("ignored", "")


class Discarded(msgspec.Struct, frozen=True):
    """The handler raised `Discard`: the message is finished without success."""

    handler: str
    reason: str

    def told(self) -> Told:
        """Return what a history keeps of it."""
        return Told("discarded", self.handler, self.reason)


class FannedOut(msgspec.Struct, frozen=True):
    """Several handlers match: from now on each has an entry of its own."""

    progress: Progress
    handlers: tuple[str, ...]

    def told(self) -> Told:
        """Return what a history keeps of it."""
        return Told("fanned_out", "")


class RetryLater(msgspec.Struct, frozen=True):
    """To be run again in `after` seconds. `error` is empty where the handler raised `Retry`, and
    where no handler is known yet. With `keeps_key`, other messages with its ordering key wait.
    """

    progress: Progress
    after: float
    reason: str
    error: str = ""
    keeps_key: bool = True

    def told(self) -> Told:
        """Return what a history keeps of it."""
        handler = self.progress.handler
        kind: Kind = "retry" if handler else "waiting"
        return Told(kind, handler, self.reason, self.error, self.after)


class DeadLettered(msgspec.Struct, frozen=True):
    """Given up: becomes a dead letter with a short reason and the full error."""

    progress: Progress
    reason: str
    error: str

    def told(self) -> Told:
        """Return what a history keeps of it."""
        return Told("dead", self.progress.handler, self.reason, self.error)


class Requeued(msgspec.Struct, frozen=True):
    """Not finished here: another worker runs it. Counts as no attempt. `reason` is empty where this
    worker stops.
    """

    progress: Progress
    reason: str = ""

    def told(self) -> Told:
        """Return what a history keeps of it."""
        return Told("requeued", self.progress.handler, self.reason)


class HeldBack(msgspec.Struct, frozen=True):
    """A pause of this name holds it back: it did not begin, and counts as no attempt."""

    progress: Progress
    pause: str

    def told(self) -> Told:
        """Return what a history keeps of it."""
        return Told("held_back", self.progress.handler, self.pause)


Outcome = Done | Ignored | Discarded | FannedOut | RetryLater | DeadLettered | Requeued | HeldBack


class Attempted(msgspec.Struct, frozen=True, gc=False):
    """What an attempt returns: the message, None where it could not be read, and the outcome."""

    message: Message | None
    outcome: Outcome
