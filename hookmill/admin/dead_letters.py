"""What an operator can ask and do with dead letters: list, look at one, count, replay, drop.

Everything is returned as data; long results come step by step. `hookmill/cli/dead.py` prints it.
"""

from __future__ import annotations

import functools
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

from hookmill.admin.filters import DeadLetterFilter, Selection
from hookmill.admin.fingerprints import kind_of
from hookmill.admin.opening import open_stream
from hookmill.admin.pace import Pace
from hookmill.admin.redactions import NOT_LOOKED_UP, Showable, check_where
from hookmill.admin.units import moment
from hookmill.config.settings import DEFAULT_GROUP, Settings
from hookmill.errors import HookmillError, WireVersionError
from hookmill.message import Death, Message, Progress
from hookmill.stream.dead_letters import LARGEST_PAGE, DeadLetters
from hookmill.stream.delayed import DelayedMessage, DelayedMessages
from hookmill.stream.entries import DeadLetter
from hookmill.stream.groups import Groups

_ID = re.compile("[0-9]{1,20}-[0-9]{1,20}(@[0-9]{1,2})?")

PAGE = 100
"""How many dead letters are replayed or dropped in one step."""

MOST_LOOKED_AT = 10_000
"""How many dead letters are looked at for one page of a list, whatever the filter is."""

_PAGE_OF_IDS = 10
"""How many given IDs are replayed or dropped in one step. It is small because nobody has looked at
how large these dead letters are.
"""


class NoSuchDeadLetterError(HookmillError):
    """No dead letter has this ID (any more)."""

    code = "no_such_dead_letter"


class Tally(NamedTuple):
    """How far a replay or a drop has come.

    `looked_at` counts the dead letters that were compared with the selection, `tried` those that
    were to be replayed or dropped so far, `done` those of them that were still there.
    """

    looked_at: int = 0
    tried: int = 0
    done: int = 0


class DeadLetterPage(NamedTuple):
    """A page of a list: its rows, without headers and bodies; how many dead letters were looked at
    for it; and where the next page begins ("": there is none). It can have few rows, or none, and a
    next page all the same, where a filter matches few of very many.
    """

    rows: list[DeadLetter]
    looked_at: int
    cursor: str


class _Ids(NamedTuple):
    """Some of the selected IDs, and how many dead letters were looked at for them."""

    looked_at: int
    ids: list[str]


@asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[DeadLetters]:
    """Open the dead letters of the settings' group. Raises `GroupRefusedError` if there is none of
    this name; the default group may still be made.
    """
    async with await open_stream(settings) as client:
        if settings.group != DEFAULT_GROUP:
            await Groups(client).find(settings.group)
        yield DeadLetters(client, settings.group)


async def find(letters: DeadLetters, dead_id: str, *, group: str) -> DeadLetter:
    """Return a dead letter, whole. Raises `NoSuchDeadLetterError`, which names the `group`."""
    letter = await letters.get(dead_id) if _ID.fullmatch(dead_id) else None
    if letter is None:
        raise NoSuchDeadLetterError(
            f"no dead letter {dead_id} in group {group}, and no message with this ID waits for a "
            "retry there: `hookmill dead list` shows the dead letters"
        )
    return letter


async def page(
    letters: DeadLetters,
    wanted: DeadLetterFilter | None = None,
    *,
    cursor: str = "",
    newest_first: bool = True,
    count: int = 20,
    most: int = MOST_LOOKED_AT,
) -> DeadLetterPage:
    """Return a page of the dead letters that a filter matches. It costs Redis what is looked at for
    it, not what there is. Raises `NoSuchDeadLetterError` if the cursor is none.
    """
    wanted = wanted or DeadLetterFilter()
    _check_ids([cursor] if cursor else [])
    rows: list[DeadLetter] = []
    looked_at, step = 0, min(count, LARGEST_PAGE) if wanted.is_everything else LARGEST_PAGE
    first, last = wanted.first_id, wanted.last_id()
    while looked_at < most:
        if cursor and newest_first:
            last = f"({cursor}"
        elif cursor:
            first = f"({cursor}"
        some = await _surveyed(letters, wanted, first, last, step, newest_first=newest_first)
        if not some:
            return DeadLetterPage(rows, looked_at, "")
        for letter in some:
            looked_at, cursor = looked_at + 1, letter.id
            if wanted.matches(letter.fields):
                rows.append(letter)
            if len(rows) == count:
                return DeadLetterPage(rows, looked_at, cursor)
    return DeadLetterPage(rows, looked_at, cursor)


class SelectedDeadLetters:
    """The dead letters that a selection means at one moment; `select` makes it.

    What dies later does not belong to it. Therefore a replay of everything ends, although some of
    it dies again meanwhile, and a person drops exactly what they were asked about.
    """

    def __init__(self, letters: DeadLetters, selection: Selection, newest: str | None) -> None:
        self._letters = letters
        self._selection = selection
        self._newest = newest

    async def listed(self) -> AsyncIterator[DeadLetter]:
        """Yield those that the filter matches, oldest first, without headers and bodies."""
        async for _, letters in self._matching():
            for letter in letters:
                yield letter

    async def count(self) -> int:
        """Return how many there are. Of given IDs, those that are not there do not count."""
        found = 0
        async for tally in self.counting():
            found = tally.tried
        return found

    async def counting(self) -> AsyncIterator[Tally]:
        """Yield how many of them (`tried`) were found so far; the last tally has all of them."""
        tally, selection = Tally(), self._selection
        if selection.ids is None and selection.filter.is_everything:
            there = await self._letters.count()
            tried = there if selection.limit is None else min(there, selection.limit)
            yield Tally(looked_at=there, tried=tried)
            return
        async for looked_at, ids in self._pages():
            found = len(ids)
            if selection.ids is not None:
                found = sum([len(await self._letters.survey(one, one, 1)) for one in ids])
            tally = Tally(tally.looked_at + looked_at, tally.tried + found)
            yield tally

    def replay(self, rate: float | None = None, *, to: str | None = None) -> AsyncIterator[Tally]:
        """Run them again with a fresh count of attempts, at most `rate` a second.

        With `to`, the handler of that name runs them, instead of the one that failed or of all that
        match. Gives a tally before and after each step, so that the last one is right even when a
        step fails. Raises `NoSuchDeadLetterError` at the end where given IDs were not there.
        """
        act = self._letters.replay
        return self._act(act if to is None else functools.partial(act, to=to), rate)

    def drop(self) -> AsyncIterator[Tally]:
        """Delete them for good. Their senders may then deliver the same message IDs again.

        Gives tallies and raises as `replay` does.
        """
        return self._act(self._letters.drop, None)

    async def _act(
        self, act: Callable[[Sequence[str]], Awaitable[int]], rate: float | None
    ) -> AsyncIterator[Tally]:
        pace, tally = Pace(rate, PAGE), Tally()
        async for looked_at, ids in self._pages():
            for start in range(0, len(ids), pace.step):
                some = ids[start : start + pace.step]
                await pace.wait(len(some))
                tally = tally._replace(tried=tally.tried + len(some))
                yield tally
                tally = tally._replace(done=tally.done + await act(some))
                yield tally
            tally = tally._replace(looked_at=tally.looked_at + looked_at)
            yield tally
        if self._selection.ids is not None and tally.done < tally.tried:
            raise NoSuchDeadLetterError(f"{tally.tried - tally.done} of these IDs not found")

    async def _pages(self) -> AsyncIterator[_Ids]:
        """Yield the selected IDs, page by page."""
        if self._selection.ids is None:
            async for looked_at, letters in self._matching():
                yield _Ids(looked_at, [letter.id for letter in letters])
            return
        ids = list(dict.fromkeys(self._selection.ids))
        for start in range(0, len(ids), _PAGE_OF_IDS):
            some = ids[start : start + _PAGE_OF_IDS]
            yield _Ids(len(some), some)

    async def _matching(self) -> AsyncIterator[tuple[int, list[DeadLetter]]]:
        """Yield pages of what the filter matches, each with the number of those looked at."""
        if self._newest is None:
            return
        wanted, left = self._selection.filter, self._selection.limit
        newest_first = self._selection.newest_first
        first, last = wanted.first_id, wanted.last_id(self._newest)
        while left != 0:
            step = min(LARGEST_PAGE, left or LARGEST_PAGE) if wanted.is_everything else LARGEST_PAGE
            found = await _surveyed(
                self._letters, wanted, first, last, step, newest_first=newest_first
            )
            if not found:
                return
            letters = [letter for letter in found if wanted.matches(letter.fields)][:left]
            if left is not None:
                left -= len(letters)
            yield len(found), letters
            if newest_first:
                last = f"({found[-1].id}"
            else:
                first = f"({found[-1].id}"


async def _surveyed(
    letters: DeadLetters,
    wanted: DeadLetterFilter,
    first: str,
    last: str,
    count: int,
    *,
    newest_first: bool,
) -> list[DeadLetter]:
    """Return some dead letters of a range, with what the filter needs to judge them."""
    whole = wanted.reads_bodies
    if whole:
        await check_where(letters.client, wanted.where, wanted.source)
    return await letters.survey(first, last, count, newest_first=newest_first, whole=whole)


async def select(letters: DeadLetters, selection: Selection) -> SelectedDeadLetters:
    """Fix which dead letters are meant: those of the selection that are there now.

    Raises `NoSuchDeadLetterError` if a given ID is no ID at all.
    """
    _check_ids(selection.ids or ())
    return SelectedDeadLetters(letters, selection, await letters.newest())


async def find_waiting(settings: Settings, message_id: str) -> list[DelayedMessage]:
    """Return the messages with this ID that are not dead, but wait for their next attempt."""
    async with await open_stream(settings) as client:
        return await DelayedMessages(client, settings.group).find(message_id)


def describe_waiting(waiting: DelayedMessage, shown: Showable) -> dict[str, Any]:
    """Return what is known of a message that waits for its next attempt, as `describe` does."""
    seen = describe(DeadLetter("", waiting.fields), whole=True, shown=shown)
    del seen["id"], seen["died_at"], seen["reason"], seen["fingerprint"]
    return {
        "state": "not dead: it waits for its next attempt",
        "next_attempt": seen["attempts"] + 1,
        "due_at": moment(waiting.due_ms),
        **seen,
    }


def describe(
    letter: DeadLetter, *, whole: bool = False, shown: Showable = NOT_LOOKED_UP
) -> dict[str, Any]:
    """Return what is known of a dead letter as JSON-ready values; `whole`: with as much of headers
    and body as is `shown`.

    Times are ISO 8601 in UTC, "" if there is none. A message that this release cannot read has
    the reason in `unreadable`.
    """
    progress = Progress.from_fields(letter.fields, letter.id)
    death = Death.from_fields(letter.fields)
    seen: dict[str, Any] = {
        "id": letter.id,
        "reason": death.reason,
        "error": death.error,
        "fingerprint": kind_of(death.error, progress.handler).fingerprint,
        "handler": progress.handler,
        "attempts": progress.attempts,
        "first_failed_at": moment(progress.failed_ms),
        "died_at": moment(death.died_ms),
    }
    try:
        message = Message.from_fields(letter.fields)
    except WireVersionError as error:
        return seen | {"message_id": "", "source": "", "type": "", "unreadable": str(error)}
    seen |= {"message_id": message.id, "source": message.source, "type": message.type}
    seen["received_at"] = moment(message.received_ms)
    if whole:
        seen["headers"] = shown.headers(message).decode("utf-8", "backslashreplace")
        seen["body"] = shown.body(message).decode("utf-8", "backslashreplace")
    return seen


def _check_ids(dead_ids: Sequence[str]) -> None:
    """Refuse what Redis would read as a range of IDs, and what would fail halfway through."""
    for dead_id in dead_ids:
        if not _ID.fullmatch(dead_id):
            raise NoSuchDeadLetterError(
                f"{dead_id!r} is not the ID of a dead letter: `hookmill dead list` shows them"
            )
