"""Fixtures for tests of dead letters: make dead letters, and remove them at the end."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import redis

from hookmill.admin.fingerprints import kind_of
from hookmill.message import Death, Message, Progress
from hookmill.stream.consumer import Consumer
from hookmill.stream.entries import Entry, FollowUp, Settlement
from hookmill.stream.producer import Producer
from tests.support import dead_letters

OpenGroup = Callable[..., Awaitable[Consumer]]
GiveUp = Callable[..., Awaitable[list[str]]]

DIED = 1_795_253_400_123
TRACEBACK = 'Traceback (most recent call last):\n  File "app.py"\nValueError: no such order\n'
FINGERPRINT = kind_of(TRACEBACK, "send").fingerprint


@pytest.fixture
def give_up(stream: Producer, open_group: OpenGroup, redis_client: redis.Redis) -> GiveUp:
    """Make dead letters of messages, as a worker does. Return the IDs of the dead letters."""

    async def give_up_all(
        *messages: Message, changed: dict[bytes, bytes] | None = None, **death: Any
    ) -> list[str]:
        group = await open_group()
        await stream.append(messages)
        taken = await group.take(len(messages))
        await group.settle(as_dead_letter(entry, changed, **death) for entry in taken.entries)
        return [letter.id for letter in await dead_letters(stream)]

    return give_up_all


def as_dead_letter(
    entry: Entry, changed: dict[bytes, bytes] | None = None, **death: Any
) -> Settlement:
    """Return the settlement with which a worker makes an entry a dead letter."""
    progress = Progress(owner=entry.ref.id, handler="send", attempts=8, failed_ms=DIED - 5000)
    told = Death(**{"reason": "failed", "error": TRACEBACK, "died_ms": DIED, **death})
    fields = {**entry.fields, **progress.to_fields(), **told.to_fields(), **(changed or {})}
    return Settlement(entry.ref, (FollowUp("dead", "token", fields),))


@pytest.fixture
def emptied(prefix: str, redis_client: redis.Redis) -> Callable[[], None]:
    """Delete the dead letters and requeued messages that a test leaves on purpose."""

    def empty() -> None:
        redis_client.delete(f"{prefix}:{{0}}:main:dead", f"{prefix}:{{0}}:main:again")

    return empty
