"""The handlers of a chaos run: those of `tests/e2e/ledger.py`, and some that do harm once.

A worker imports them as `tests.chaos.workload:handlers`.
"""

from __future__ import annotations

import asyncio
import os
import threading
from pathlib import Path

from hookmill import Delivery, Event
from hookmill.handlers import Backoff
from tests.e2e.ledger import handlers, note

__all__ = ["handlers"]

HOARD = 300 * 1024 * 1024
"""Bytes that a hungry handler takes. The limit of a worker is `watch.MEMORY_LIMIT`."""

_may_harm = os.environ.get("CHAOS_HARM") == "yes"


class Hungry(Event, tag="hungry"):
    """Takes more memory than a worker may have, when it is handled for the first time."""


@handlers.on(Hungry)
async def take_memory(delivery: Delivery[Hungry]) -> None:
    if _may_harm and _is_first(delivery.id):
        hoard = b"x" * HOARD
        await asyncio.sleep(20)
        assert len(hoard) == HOARD
    await note(delivery.id, delivery.attempt)


class Stuck(Event, tag="stuck"):
    """Blocks its thread for ever, when it is handled for the first time."""


@handlers.on(Stuck, timeout=0.5, backoff=Backoff(first=0.1))
def block_thread(delivery: Delivery[Stuck]) -> None:
    if _may_harm and _is_first(delivery.id):
        threading.Event().wait()
    asyncio.run(note(delivery.id, delivery.attempt))


def _is_first(message_id: str) -> bool:
    """Return whether no process has asked this for the message before."""
    place = Path(os.environ["LEDGER"]).with_name(f"seen-{message_id}")
    try:
        place.touch(exist_ok=False)
    except FileExistsError:
        return False
    return True
