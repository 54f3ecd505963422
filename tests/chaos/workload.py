"""The handlers of a chaos run: those of `tests/e2e/ledger.py`, and some that do harm once.

A worker imports them as `tests.chaos.workload:handlers`.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from hookmill import Delivery, Event
from tests.e2e.ledger import handlers, note

__all__ = ["handlers"]

HOARD = 300 * 1024 * 1024
"""Bytes that a hungry handler takes. The limit of a worker is `watch.MEMORY_LIMIT`."""


class Hungry(Event, tag="hungry"):
    """Takes more memory than a worker may have, when it is handled for the first time."""


@handlers.on(Hungry)
async def take_memory(delivery: Delivery[Hungry]) -> None:
    if _is_first(delivery.id):
        hoard = b"x" * HOARD
        await asyncio.sleep(20)
        assert len(hoard) == HOARD
    await note(delivery.id, delivery.attempt)


def _is_first(message_id: str) -> bool:
    """Return whether no process has asked this for the message before."""
    place = Path(os.environ["LEDGER"]).with_name(f"seen-{message_id}")
    try:
        place.touch(exist_ok=False)
    except FileExistsError:
        return False
    return True
