"""The `hookmill dead` commands: show a person what was given up, and let them decide."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import msgspec
from rich.console import Console
from rich.progress import Progress as Bar

from hookmill.entries import DeadLetter
from hookmill.errors import HookmillError, WireVersionError
from hookmill.message import Death, Message, Progress
from hookmill.settings import Settings
from hookmill.stream import DeadLetters, Stream

_ID = re.compile("[0-9]{1,20}-[0-9]{1,20}")

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
    found = False
    async with opened(settings) as dead_letters:
        async for letter in each(dead_letters):
            found = True
            seen = describe(letter)
            if as_json:
                _print_json(seen)
            else:
                _console().out(_printable(_line(seen), keep=""))
    if not found and not as_json:
        _console().print("no dead letters")


async def show(settings: Settings, dead_id: str, *, as_json: bool) -> None:
    """Print one dead letter whole."""
    _check([dead_id])
    async with opened(settings) as dead_letters:
        letter = await dead_letters.get(dead_id)
    if letter is None:
        raise NoSuchDeadLetterError(f"no dead letter {dead_id} in group {settings.group}")
    seen = describe(letter, whole=True)
    if as_json:
        _print_json(seen)
        return
    for name, value in seen.items():
        text = _printable(str(value))
        _console().out(f"{name}:\n{text}\n" if "\n" in text else f"{name}: {text}")


async def replay(settings: Settings, dead_ids: Sequence[str]) -> None:
    """Replay these dead letters, or all that are there now."""
    _check(dead_ids)
    async with opened(settings) as dead_letters:
        chosen = list(dict.fromkeys(dead_ids)) or [letter.id async for letter in each(dead_letters)]
        replayed = 0
        with Bar(console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task("replaying", total=len(chosen))
            for start in range(0, len(chosen), PAGE):
                page = chosen[start : start + PAGE]
                replayed += await dead_letters.replay(page)
                bar.advance(task, len(page))
    _console().print(f"replayed {replayed} of {len(chosen)}")
    if dead_ids and replayed < len(chosen):
        raise NoSuchDeadLetterError(f"{len(chosen) - replayed} of these IDs are not there")


async def drop(settings: Settings, dead_ids: Sequence[str]) -> None:
    """Delete these dead letters."""
    _check(dead_ids)
    chosen = list(dict.fromkeys(dead_ids))
    async with opened(settings) as dead_letters:
        dropped = await dead_letters.drop(chosen)
    _console().print(f"dropped {dropped} of {len(chosen)}")
    if dropped < len(chosen):
        raise NoSuchDeadLetterError(f"{len(chosen) - dropped} of these IDs are not there")


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
    seen["received_at"] = _moment(message.received_ms)
    if whole:
        seen["headers"] = message.header_block.decode("utf-8", "backslashreplace")
        seen["body"] = message.body.decode("utf-8", "backslashreplace")
    return seen


def _line(seen: dict[str, Any]) -> str:
    """Sum up a dead letter: its ID first, for the other commands, then what died, where and why."""
    error = seen["error"].strip().rpartition("\n")[2] or seen.get("unreadable")
    return "  ".join(
        [
            *(seen[key] or "-" for key in ("id", "died_at", "source", "type", "message_id")),
            f"{seen['handler'] or '-'} (attempts: {seen['attempts']})",
            ": ".join(filter(None, [seen["reason"], error])),
        ]
    )


def _moment(unix_ms: int) -> str:
    if not unix_ms:
        return ""
    try:
        return datetime.fromtimestamp(unix_ms / 1000, UTC).isoformat(timespec="milliseconds")
    except (OverflowError, ValueError, OSError):
        return f"{unix_ms} ms"  # not written by us; one odd entry must not hide the others


def _check(dead_ids: Sequence[str]) -> None:
    """Refuse what Redis would take for a range of IDs, or fail on halfway through."""
    for dead_id in dead_ids:
        if not _ID.fullmatch(dead_id):
            raise NoSuchDeadLetterError(f"{dead_id!r} is no ID of a dead letter: see `dead list`")


def _console() -> Console:
    return Console(highlight=False)


def _print_json(seen: dict[str, Any]) -> None:
    _console().out(msgspec.json.encode(seen).decode())


def _printable(text: str, keep: str = "\n\t") -> str:
    """Escape what would steer the terminal: the sender chose these characters."""
    return "".join(
        c if c.isprintable() or c in keep else c.encode("unicode_escape").decode() for c in text
    )
