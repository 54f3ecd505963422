"""What tests ask of dead letters and do with them, in a word each."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from hookmill.admin.dead_letters import Tally, select
from hookmill.admin.filters import EVERYTHING, DeadLetterFilter, Selection
from hookmill.stream.dead_letters import DeadLetters


def of_ids(*ids: str) -> Selection:
    return Selection(ids=ids)


def of_filter(limit: int | None = None, **fields: Any) -> Selection:
    return Selection(filter=DeadLetterFilter(**fields), limit=limit)


async def listed(letters: DeadLetters, selection: Selection = EVERYTHING) -> list[str]:
    return [letter.id async for letter in (await select(letters, selection)).listed()]


async def counted(letters: DeadLetters, selection: Selection = EVERYTHING) -> int:
    return await (await select(letters, selection)).count()


async def replay(
    letters: DeadLetters, selection: Selection = EVERYTHING, rate: float | None = None
) -> tuple[int, int]:
    return await followed((await select(letters, selection)).replay(rate))


async def drop(letters: DeadLetters, selection: Selection = EVERYTHING) -> tuple[int, int]:
    return await followed((await select(letters, selection)).drop())


async def followed(
    tallies: AsyncIterator[Tally], seen: list[Tally] | None = None
) -> tuple[int, int]:
    """How many were done and tried in the end; `seen` keeps each tally, also where it fails."""
    seen = [Tally()] if seen is None else seen
    async for tally in tallies:
        seen.append(tally)
    return seen[-1].done, seen[-1].tried
