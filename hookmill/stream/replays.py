"""Replays of handled messages: what is to be replayed, a step of it, and how far each has come."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, Self

from hookmill.stream.client import Client
from hookmill.stream.entries import NOT_LISTED, DeadLetter
from hookmill.stream.script_runner import Call, ScriptRunner

PLACE = 0
"""The partition in which a replay's plan lies. How far it has come, is kept in each partition."""

KEPT_FOR = 7 * 86_400
"""Seconds for which a replay that was interrupted can be resumed."""

_PAGE_BYTES = 1024 * 1024
_STEP_BYTES = 256 * 1024
"""Bytes that one step writes at most: Redis serves nobody else meanwhile."""

_PLAN = " plan"
"""What follows a replay's name in the name of the field with its plan."""

State = Literal["went on", "rests", "taken over", "other cursor"]


class ReplayProgress(NamedTuple):
    """How far a replay has come in a partition, or in all: the ID of the last entry that was
    decided about, how many were replayed (`forgotten` of them have an ID that is no longer
    remembered), and how many were left out: duplicates, unfinished ones, and those that are gone.
    """

    cursor: str = "-"
    replayed: int = 0
    forgotten: int = 0
    duplicates: int = 0
    unfinished: int = 0
    gone: int = 0

    @classmethod
    def read(cls, text: bytes | None) -> Self:
        """Read what `replay_handled.lua` has written."""
        if not text:
            return cls()
        cursor, *numbers = text.decode().split()
        return cls(cursor, *map(int, numbers))

    def plus(self, other: ReplayProgress) -> ReplayProgress:
        """Return the numbers of both; the cursor says nothing."""
        return ReplayProgress("", *(a + b for a, b in zip(self[1:], other[1:], strict=True)))


class Limits(NamedTuple):
    """From when on a replay rests: messages and bytes of a partition's backlog, and entries of its
    again stream. 0 is no limit.
    """

    messages: int = 0
    bytes: int = 0
    again: int = 0


class Replays:
    """The replays of a group. Methods raise `StreamUnavailableError` and `GroupLostError`."""

    def __init__(self, client: Client, group: str) -> None:
        self._client = client
        self._group = group
        self._partitions = [keys.of_group(group) for keys in client.partitions]
        self._scripts = ScriptRunner(client, drains=False)

    @property
    def partitions(self) -> int:
        """How many partitions there are."""
        return len(self._partitions)

    async def survey(
        self, number: int, first: str, last: str, count: int, *, whole: bool
    ) -> list[DeadLetter]:
        """Return up to `count` entries of a partition's stream, from `first` to `last`, as those of
        the dead letters are surveyed.
        """
        args = [first, last, count, _PAGE_BYTES, *(() if whole else NOT_LISTED)]
        call = Call(number, [self._partitions[number].stream], args)
        page, _ = await self._scripts.run("survey", call)
        return [
            DeadLetter(entry_id.decode(), dict(zip(flat[::2], flat[1::2], strict=True)))
            for entry_id, flat in page
        ]

    async def step(  # noqa: PLR0913 - what the script is told
        self,
        number: int,
        name: str,
        run: str,
        ids: Sequence[str],
        *,
        before: str,
        after: str,
        unfinished: int,
        handler: str,
        limits: Limits,
        acts: bool,
    ) -> tuple[State, ReplayProgress]:
        """Replay these entries of a partition, or with `acts` false only decide about them. Return
        how far it has come: its cursor is `after`, or the last of them that was decided about.
        """
        keys = self._partitions[number]
        used = [keys.stream, keys.again, keys.owners, keys.busy, keys.parked, keys.counts]
        used += [self._client.partitions[number].backlog, keys.replays, keys.wake]
        args: list[Any] = [self._group, run, name, "act" if acts else "count", before, after]
        args += [*limits, _STEP_BYTES, handler, unfinished, KEPT_FOR, *ids]
        state, cursor, *numbers = await self._scripts.run(
            "replay_handled", Call(number, used, args)
        )
        return state.decode(), ReplayProgress(cursor.decode(), *numbers)

    async def progress(self, name: str) -> list[ReplayProgress]:
        """Return how far a replay has come in each partition."""
        rows = await self._ask("HGET", name)
        return [ReplayProgress.read(text) for text in rows]

    async def keep(self, name: str, plan: bytes) -> None:
        """Keep what a replay is to do, so that it can be resumed."""
        key = self._partitions[PLACE].replays
        await self._client.execute(PLACE, "HSET", key, name + _PLAN, plan)
        await self._client.execute(PLACE, "EXPIRE", key, KEPT_FOR)

    async def plans(self) -> dict[str, bytes]:
        """Return what is to be done by the replays that have not ended, by their names."""
        found = await self._client.execute(PLACE, "HGETALL", self._partitions[PLACE].replays)
        rows = zip(found[::2], found[1::2], strict=True)
        names = {name.decode("utf-8", "replace"): plan for name, plan in rows}
        return {
            name.removesuffix(_PLAN): plan for name, plan in names.items() if name.endswith(_PLAN)
        }

    async def forget(self, name: str) -> None:
        """Forget a replay that has ended."""
        await self._ask("HDEL", name, name + _PLAN)

    async def give_up_right(self, run: str) -> None:
        """Let another run begin at once."""
        for number, keys in enumerate(self._partitions):
            held = await self._client.execute(number, "HGET", keys.counts, "replay")
            if held and held.decode().split()[0] == run:
                await self._client.execute(number, "HDEL", keys.counts, "replay")

    async def _ask(self, command: str, *names: str) -> list[Any]:
        return [
            await self._client.execute(number, command, keys.replays, *names)
            for number, keys in enumerate(self._partitions)
        ]
