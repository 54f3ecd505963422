"""A receiver notes what is hidden of its sources, and does not fight with others about it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from hookmill.config.settings import Settings
from hookmill.config.source_options import SourceOptions
from hookmill.config.sources import Source, sources_of
from hookmill.stream.producer import Producer
from hookmill.stream.redactions import Redactions
from receiver import redaction_notes
from receiver.redaction_notes import RedactionNotes
from tests.support import MARBLE_SECRET, Server, Stream, eventually

Sources = Callable[..., list[Source]]


@pytest.fixture
def sources(settings: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch) -> Sources:
    monkeypatch.setenv("SHOP_SECRET", MARBLE_SECRET)

    def make(*redact: str) -> list[Source]:
        secrets = ({"env": "SHOP_SECRET"},)
        table = {"preset": "github", "secrets": secrets, "redact": redact}
        return sources_of(settings(sources={"shop": SourceOptions.model_validate(table)}))

    return make


def reads(notes: Redactions, expected: dict[str, tuple[str, ...]]) -> Callable[[], Any]:
    async def does() -> bool:
        return await notes.read() == expected

    return does


async def test_the_notes_follow_the_tables(stream: Producer, sources: Sources) -> None:
    notes, kept = RedactionNotes(stream.client), Redactions(stream.client)
    await kept.note({"another": ("a",)})
    notes.replace_sources(sources("data.email"))
    notes.start()
    await eventually(reads(kept, {"another": ("a",), "shop": ("data.email",)}))
    notes.replace_sources(sources())
    await eventually(reads(kept, {"another": ("a",)}))
    await notes.stop()


async def test_what_redis_has_lost_is_noted_again_and_what_others_noted_stays(
    stream: Producer, sources: Sources, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redaction_notes, "PERIOD", 0.01)
    notes, kept = RedactionNotes(stream.client), Redactions(stream.client)
    notes.replace_sources(sources("data.email"))
    notes.start()
    await eventually(reads(kept, {"shop": ("data.email",)}))
    await kept.note({"shop": ()})
    await eventually(reads(kept, {"shop": ("data.email",)}))
    await kept.note({"shop": ("newer",)})
    await notes._look()
    assert await kept.read() == {"shop": ("newer",)}
    await notes.stop()


async def test_it_is_noted_once_redis_can_be_reached(
    sources: Sources, own_server: Callable[..., Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redaction_notes, "PERIOD", 0.01)
    server = own_server()
    stream = Stream(server.url, "hookmill")
    server.kill()
    notes = RedactionNotes(stream.client)
    notes.replace_sources(sources("data.email"))
    notes.start()
    server.start()
    await eventually(reads(Redactions(stream.client), {"shop": ("data.email",)}))
    await notes.stop()
    await stream.close()
