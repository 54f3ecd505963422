"""The `hookmill dead` commands: show a person what was given up, and let them decide."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import msgspec
from rich.console import Console
from rich.progress import Progress as Bar
from rich.table import Table

from hookmill.errors import HookmillError, WireVersionError
from hookmill.message import Death, Message, Progress
from hookmill.settings import Settings
from hookmill.stream import DeadLetter, DeadLetters, Stream

PAGE = 100
"""Dead letters read or replayed in one step."""


class NoSuchDeadLetterError(HookmillError):
    """No dead letter has this ID (any more)."""

    code = "no_such_dead_letter"


@asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[DeadLetters]:
    """Open the dead letters of the settings' group."""
    stream = Stream(settings.need_redis_url(), settings.prefix)
    try:
        yield DeadLetters(stream, settings.group)
    finally:
        await stream.close()


async def each(dead_letters: DeadLetters) -> AsyncIterator[DeadLetter]:
    """Walk through all dead letters, page by page."""
    after = "-"
    while page := await dead_letters.read(after, PAGE):
        for letter in page:
            yield letter
        after = page[-1].id


async def list_all(settings: Settings, *, as_json: bool) -> None:
    """Print one line a dead letter."""
    console = Console()
    table = Table("ID", "died", "source", "type", "message ID", "handler", "attempts", "reason")
    async with opened(settings) as dead_letters:
        async for letter in each(dead_letters):
            seen = describe(letter)
            if as_json:
                console.out(msgspec.json.encode(seen).decode(), highlight=False)
                continue
            table.add_row(
                *(str(seen[name]) for name in (
                    "id", "died_at", "source", "type", "message_id", "handler", "attempts",
                )),
                f"{seen['reason']}: {str(seen['error']).strip().rpartition(chr(10))[2]}",
            )  # fmt: skip
    if not as_json:
        console.print(table if table.rows else "no dead letters", markup=False)


async def show(settings: Settings, dead_id: str, *, as_json: bool) -> None:
    """Print one dead letter whole."""
    async with opened(settings) as dead_letters:
        letter = await dead_letters.get(dead_id)
    if letter is None:
        raise NoSuchDeadLetterError(f"no dead letter {dead_id} in group {settings.group}")
    seen = describe(letter, whole=True)
    console = Console()
    if as_json:
        console.out(msgspec.json.encode(seen).decode(), highlight=False)
        return
    for name, value in seen.items():
        text = str(value)
        console.out(f"{name}:\n{text}\n" if "\n" in text else f"{name}: {text}", highlight=False)


async def replay(settings: Settings, dead_ids: Sequence[str]) -> None:
    """Replay these dead letters, or all that are there now."""
    async with opened(settings) as dead_letters:
        chosen = list(dead_ids) or [letter.id async for letter in each(dead_letters)]
        replayed = 0
        with Bar(console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task("replaying", total=len(chosen))
            for start in range(0, len(chosen), PAGE):
                page = chosen[start : start + PAGE]
                replayed += await dead_letters.replay(page)
                bar.advance(task, len(page))
    Console().print(f"replayed {replayed} of {len(chosen)}")
    if replayed < len(dead_ids):
        raise NoSuchDeadLetterError(f"{len(chosen) - replayed} of these IDs are not there")


async def drop(settings: Settings, dead_ids: Sequence[str]) -> None:
    """Delete these dead letters."""
    async with opened(settings) as dead_letters:
        dropped = await dead_letters.drop(dead_ids)
    Console().print(f"dropped {dropped} of {len(dead_ids)}")
    if dropped < len(dead_ids):
        raise NoSuchDeadLetterError(f"{len(dead_ids) - dropped} of these IDs are not there")


def describe(letter: DeadLetter, *, whole: bool = False) -> dict[str, Any]:
    """Return what there is to know of a dead letter, as JSON-ready values."""
    progress = Progress.from_fields(letter.fields, letter.id)
    death = Death.from_fields(letter.fields)
    seen: dict[str, Any] = {
        "id": letter.id,
        "reason": death.reason,
        "error": death.error,
        "handler": progress.handler,
        "attempts": progress.attempts,
        "first_failed_at": _moment(progress.failed_ms),
        "died_at": _moment(death.died_ms),
    }
    try:
        message = Message.from_fields(letter.fields)
    except WireVersionError as error:
        return seen | {"message_id": "", "source": "", "type": "", "unreadable": str(error)}
    seen |= {"message_id": message.id, "source": message.source, "type": message.type}
    seen["received_at"] = message.received_at.isoformat(timespec="milliseconds")
    if whole:
        seen["headers"] = message.header_block.decode("utf-8", "backslashreplace")
        seen["body"] = message.body.decode("utf-8", "backslashreplace")
    return seen


def _moment(unix_ms: int) -> str:
    if not unix_ms:
        return ""
    return datetime.fromtimestamp(unix_ms / 1000, UTC).isoformat(timespec="seconds")
