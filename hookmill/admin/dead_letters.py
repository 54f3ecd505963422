"""The `hookmill dead` commands: show a person what was given up, and let them decide."""

from __future__ import annotations

import asyncio
import re
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgspec
from rich.console import Console
from rich.progress import Progress as Bar

from hookmill.admin.filters import Choice
from hookmill.config.settings import Settings
from hookmill.errors import HookmillError, WireVersionError
from hookmill.message import Death, Message, Progress
from hookmill.stream.client import Client
from hookmill.stream.dead_letters import DeadLetters
from hookmill.stream.entries import DeadLetter

_ID = re.compile("[0-9]{1,20}-[0-9]{1,20}(@[0-9]{1,2})?")

EVERYTHING = Choice()

Which = Sequence[str] | Choice
"""Dead letters by their IDs, or those that are chosen."""

PAGE = 100
"""Dead letters read, replayed or dropped in one step."""

_FEW = 10
"""IDs that are tried in one step: how large they are is not known."""

_LINE = 80
"""Characters up to which a JSON body is shown in one line."""


class NoSuchDeadLetterError(HookmillError):
    """No dead letter has this ID (any more)."""

    code = "no_such_dead_letter"


class Step(NamedTuple):
    """A step through the dead letters: how many were looked at, and those that are meant."""

    looked_at: int
    letters: list[DeadLetter]


class Pace:
    """Lets at most `rate` a second go (None: as many as can)."""

    def __init__(
        self,
        rate: float | None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._rate = rate
        self._clock = clock
        self._sleep = sleep
        self._free_at = clock()

    @property
    def step(self) -> int:
        """How many may go at once: what a tenth of a second allows, so that the load is even."""
        return PAGE if self._rate is None else max(1, min(PAGE, int(self._rate / 10)))

    async def wait(self, count: int) -> None:
        """Wait until `count` more may go."""
        if self._rate is None:
            return
        if (ahead := self._free_at - self._clock()) > 0:
            await self._sleep(ahead)
        # From now on: what a slow Redis held up is not made good by a burst.
        self._free_at = max(self._free_at, self._clock()) + count / self._rate


@asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[DeadLetters]:
    """Open the dead letters of the settings' group."""
    async with await Client.as_found(settings.need_redis_url(), settings.prefix) as client:
        yield DeadLetters(client, settings.group)


async def chosen(
    dead_letters: DeadLetters, choice: Choice, newest: str | None
) -> AsyncIterator[Step]:
    """Walk through what is chosen, oldest first, without headers and bodies, up to `newest`.

    What dies again meanwhile is newer, so a replay of everything does not chase it.
    """
    if newest is None:
        return
    first, last = choice.first_id, choice.last_id(newest)
    left = choice.limit
    while left != 0 and (page := await dead_letters.survey(first, last, PAGE)):
        letters = [letter for letter in page if choice.matches(letter.fields)][:left]
        if left is not None:
            left -= len(letters)
        yield Step(len(page), letters)
        first = f"({page[-1].id}"


async def list_all(
    settings: Settings, choice: Choice = EVERYTHING, *, as_json: bool = False
) -> None:
    """Print one line a dead letter."""
    found = False
    async with opened(settings) as dead_letters:
        async for step in chosen(dead_letters, choice, await dead_letters.newest()):
            for letter in step.letters:
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
    if "body" in seen:
        seen["body"] = _pretty(seen["body"])
    for name, value in seen.items():
        text = _printable(str(value))
        _console().out(f"{name}:\n{text}\n" if "\n" in text else f"{name}: {text}")


async def replay(
    settings: Settings, which: Which, *, rate: float | None = None, dry_run: bool = False
) -> None:
    """Have dead letters run again, at most `rate` a second."""
    async with opened(settings) as dead_letters:
        newest = await dead_letters.newest()
        if dry_run:
            _console().print(f"would replay {await _number(dead_letters, which, newest)}")
        else:
            steps = _steps(dead_letters, which, newest)
            total = await dead_letters.count()
            done, tried = await _carry_out("replayed", dead_letters.replay, steps, total, rate)
            _check_found(which, done, tried)


async def drop(
    settings: Settings,
    which: Which,
    *,
    confirm: Callable[[int], bool] = lambda _: True,
    dry_run: bool = False,
) -> None:
    """Delete dead letters for good; their senders may then deliver the same IDs again.

    Of those chosen, `confirm` is first asked with their number; IDs mean what they say.
    """
    async with opened(settings) as dead_letters:
        newest = await dead_letters.newest()
        if dry_run:
            _console().print(f"would drop {await _number(dead_letters, which, newest)}")
            return
        if isinstance(which, Choice):
            number = await _number(dead_letters, which, newest)
            if number and not confirm(number):
                _console().print("dropped none")
                return
        steps = _steps(dead_letters, which, newest)
        total = await dead_letters.count()
        done, tried = await _carry_out("dropped", dead_letters.drop, steps, total)
        _check_found(which, done, tried)


async def _steps(
    dead_letters: DeadLetters, which: Which, newest: str | None
) -> AsyncIterator[tuple[int, list[str]]]:
    """Give the IDs that are meant, and beside each page of them how many were looked at."""
    if isinstance(which, Choice):
        async for step in chosen(dead_letters, which, newest):
            yield step.looked_at, [letter.id for letter in step.letters]
        return
    _check(which)
    ids = list(dict.fromkeys(which))
    for start in range(0, len(ids), _FEW):
        yield len(ids[start : start + _FEW]), ids[start : start + _FEW]


async def _number(dead_letters: DeadLetters, which: Which, newest: str | None) -> int:
    """Return how many of what is meant are there."""
    found = 0
    async for _, ids in _steps(dead_letters, which, newest):
        if isinstance(which, Choice):
            found += len(ids)
        else:
            found += sum([len(await dead_letters.survey(one, one, 1)) for one in ids])
    return found


async def _carry_out(
    what: str,
    act: Callable[[Sequence[str]], Awaitable[int]],
    steps: AsyncIterator[tuple[int, list[str]]],
    total: int,
    rate: float | None = None,
) -> tuple[int, int]:
    """Do it step by step; return to how many it was done and how many were tried.

    Both are said even if it is broken off: whoever begins again need not guess.
    """
    pace = Pace(rate)
    done = tried = 0
    screen = Console(stderr=True)
    try:
        with Bar(console=screen, transient=True, disable=not screen.is_terminal) as bar:
            task = bar.add_task(what, total=total)
            async for looked_at, ids in steps:
                for start in range(0, len(ids), pace.step):
                    some = ids[start : start + pace.step]
                    await pace.wait(len(some))
                    tried += len(some)
                    done += await act(some)
                    bar.update(task, description=f"{what} {done}")
                bar.advance(task, looked_at)
    finally:
        if tried or not sys.exc_info()[0]:
            _console().print(f"{what} {done} of {tried}")
    return done, tried


def _check_found(which: Which, done: int, tried: int) -> None:
    if done < tried and not isinstance(which, Choice):
        raise NoSuchDeadLetterError(f"{tried - done} of these IDs are not there")


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
    """Sum up a dead letter: its ID first, for the other commands; first and last failure; what
    died, where and why.
    """
    error = seen["error"].strip().rpartition("\n")[2] or seen.get("unreadable")
    return "  ".join(
        [
            seen["id"],
            *(_short(seen[key]) for key in ("first_failed_at", "died_at")),
            *(seen[key] or "-" for key in ("source", "type", "message_id")),
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


def _short(moment: str) -> str:
    """Leave out what a list need not show: a line has two times."""
    return re.sub(r"\.[0-9]+\+00:00$", "Z", moment) or "-"


def _pretty(body: str) -> str:
    """Lay JSON out for reading: in one line where it fits. Anything else stays as it is."""
    try:
        msgspec.json.decode(body)
        line = msgspec.json.format(body, indent=0)
        return line if len(line) <= _LINE else msgspec.json.format(body, indent=2)
    except (ValueError, RecursionError):
        return body


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
