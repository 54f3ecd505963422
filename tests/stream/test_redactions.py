"""The notes of what is hidden of each source."""

from __future__ import annotations

import redis

from hookmill.redaction import EVERYTHING
from hookmill.stream.producer import Producer
from hookmill.stream.redactions import Redactions


async def test_a_note_is_kept_until_nothing_is_hidden(stream: Producer) -> None:
    notes = Redactions(stream.client)
    assert await notes.read() == {}
    await notes.note({"shop": ("data.email", "header:x"), "bank": ("iban",)})
    await notes.note({"shop": ("data.email",), "other": ()})
    assert await notes.read() == {"shop": ("data.email",), "bank": ("iban",)}
    await notes.note({"shop": (), "bank": ()})
    await notes.note({})
    assert await notes.read() == {}


async def test_of_a_note_that_cannot_be_read_everything_is_hidden(
    stream: Producer, redis_client: redis.Redis, prefix: str
) -> None:
    redis_client.hset(f"{prefix}:{{0}}:redact", mapping={"shop": "{", "bank": "[1]"})
    assert await Redactions(stream.client).read() == {"shop": EVERYTHING, "bank": EVERYTHING}
