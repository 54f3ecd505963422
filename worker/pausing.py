"""Judges whether a message is paused, before its attempt begins. No I/O."""

from __future__ import annotations

from typing import Any

import msgspec

from hookmill.handlers import Handlers
from hookmill.message import Message, Progress
from hookmill.stream.entries import Entry
from hookmill.stream.facts import ALL
from hookmill.stream.known_pauses import KnownPauses
from worker.outcome import HeldBack, Requeued

PAUSED = "all is paused"
"""Why a message is requeued that was taken just before the pause."""


def held_back_by(
    pauses: KnownPauses,
    handlers: Handlers[Any],
    entry: Entry,
    message: Message,
    progress: Progress,
) -> HeldBack | Requeued | None:
    """Return the outcome of a message that is paused; None: it may begin.

    Where all is paused, it waits where it can be taken again. For a message that several handlers
    get, a handler's pause is judged after the fan-out.
    """
    names = _names_of(handlers, message, progress)
    pause = pauses.holds(entry.ref.partition, message.source, entry.key, names)
    if pause is None:
        return None
    if pause == ALL:
        return Requeued(progress, PAUSED)
    return HeldBack(msgspec.structs.replace(progress, unknown_ms=0), pause)


def _names_of(handlers: Handlers[Any], message: Message, progress: Progress) -> tuple[str, ...]:
    """Return all names of the one handler that a message is for; () if it is not one."""
    if progress.handler:
        named = handlers.named(progress.handler)
        return (progress.handler,) if named is None else (named.name, *named.aliases)
    matching = handlers.matching(message.type)
    return (matching[0].name, *matching[0].aliases) if len(matching) == 1 else ()
