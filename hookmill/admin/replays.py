"""Runs handled messages again that the stream still has: which, with which handler, how fast.

Everything is returned as data, step by step; `hookmill/cli/replay.py` prints it. A replay can be
interrupted at any step, and resumed by its name.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Literal, NamedTuple

import msgspec

from hookmill.admin.opening import open_stream
from hookmill.admin.pace import Pace
from hookmill.admin.redactions import shown_by
from hookmill.admin.replay_checks import (
    ReplayRefusedError,
    bounds_of_one,
    group_facts,
    known_handler,
    made_ms,
)
from hookmill.admin.replay_filter import ReplayFilter, describe_entry
from hookmill.config.settings import Settings
from hookmill.errors import StreamUnavailableError
from hookmill.stream.client import Client
from hookmill.stream.entries import DeadLetter
from hookmill.stream.facts import Backlog
from hookmill.stream.replays import Limits, ReplayProgress, Replays
from hookmill.stream.unfinished import OneMessage, ReplayTakenOverError, UnfinishedWork
from hookmill.stream.view import need_all

_PAGE = 150
"""Entries that are read in one step."""

_STEP = 100
"""Messages that are replayed in one step, at most."""

_MOST_AGAIN = 10_000
"""From so many entries in the group's again stream on, a replay rests: new messages share the
workers with them, and each takes memory.
"""

_REST = 0.5
"""Seconds between two tries while it rests, or while Redis does not answer."""

_AWAY = 60.0
"""Seconds for which Redis may be away until a replay ends with an error."""

SAMPLE = 10
"""How many messages a dry run shows."""


class ReplayPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What a replay is to do. `first` and `last` bound the IDs of the messages in each partition,
    so that what comes later is not part of it. `matched` is how many matched when they were
    counted.
    """

    wanted: ReplayFilter
    to: str = ""
    rate: float | None = None
    first: str = "-"
    last: tuple[str, ...] = ()
    matched: int = 0


class ReplayTally(NamedTuple):
    """How far a replay has come: how many entries it has looked at, and what became of those that
    match. `state` says what it does now.
    """

    looked_at: int
    progress: ReplayProgress
    state: Literal["working", "resting", "waiting for Redis"] = "working"

    @property
    def matched(self) -> int:
        """How many matched so far."""
        _, replayed, _, duplicates, unfinished, gone = self.progress
        return replayed + duplicates + unfinished + gone


NOTHING = ReplayTally(0, ReplayProgress())


class Replay:
    """A replay of a group's handled messages. Call `look` first, then `counting` or `run`."""

    def __init__(
        self,
        client: Client,
        settings: Settings,
        name: str,
        plan: ReplayPlan,
        only: OneMessage | None = None,
    ) -> None:
        self.name = name
        self.plan = plan
        self.sample: list[dict[str, Any]] = []
        """The first messages that were counted, described."""
        self._client = client
        self._replays = Replays(client, settings.group)
        self._run = secrets.token_hex(8)
        self._unfinished = UnfinishedWork(client, settings.group, self._run, only)
        limit = Backlog(settings.backlog_messages, settings.backlog_bytes)
        share = limit.share(self._replays.partitions)
        again = max(_STEP, _MOST_AGAIN // self._replays.partitions)
        self._limits = Limits(-(-share.messages // 2), -(-share.bytes // 2), again)
        self._done: list[ReplayProgress] = []
        self._looked_at = 0

    async def look(self) -> AsyncGenerator[int]:
        """Find out what the group has unfinished; yield how many entries were read so far.

        Raises `ReplayTakenOverError` where another replay of the group is under way.
        """
        await need_all(self._client)
        async for read in self._unfinished.look():
            yield read
        if not self.plan.last:
            last = tuple(self._unfinished.last.values())
            self.plan = msgspec.structs.replace(self.plan, last=last)
        self._done = await self._replays.progress(self.name)

    async def counting(self) -> AsyncGenerator[ReplayTally]:
        """Yield how many would be replayed so far. It changes nothing."""
        cursors = ["-"] * self._replays.partitions
        progress = ReplayProgress()
        async for number, page in self._pages(cursors):
            ids, unfinished = self._sorted(number, page)
            self._sample(page, set(ids))
            cursors[number] = page[-1].id
            progress = progress.plus(ReplayProgress("", unfinished=unfinished))
            while ids:
                some, ids = ids[:_STEP], ids[_STEP:]
                _, step = await self._step(number, some, "-", some[-1], 0, acts=False)
                ids = some[some.index(step.cursor) + 1 :] + ids
                progress = progress.plus(step)
            yield ReplayTally(self._looked_at, progress)
        tally = ReplayTally(self._looked_at, progress)
        self.plan = msgspec.structs.replace(self.plan, matched=tally.matched)

    async def run(self) -> AsyncGenerator[ReplayTally]:
        """Replay them; yield a tally after each step. What is interrupted can be resumed by name.

        Raises `ReplayTakenOverError` where another replay has begun meanwhile.
        """
        await self._replays.keep(self.name, msgspec.json.encode(self.plan))
        self._looked_at = 0
        pace = Pace(self.plan.rate, _STEP)
        cursors = [one.cursor for one in self._done]
        async for number, page in self._pages(cursors):
            async for state in self._replay(number, page, pace):
                yield ReplayTally(self._looked_at, self._total, state)
            cursors[number] = self._done[number].cursor
        tally = ReplayTally(self._looked_at, self._total)
        gone = tally.progress.gone + max(0, self.plan.matched - tally.matched)
        yield tally._replace(progress=tally.progress._replace(gone=gone))
        await self._replays.forget(self.name)

    async def close(self) -> None:
        """Let the next replay begin at once."""
        try:
            await self._replays.give_up_right(self._run)
        except StreamUnavailableError:
            return  # then it may begin when this one was silent for a minute

    @property
    def _total(self) -> ReplayProgress:
        total = ReplayProgress()
        for one in self._done:
            total = total.plus(one)
        return total

    async def _replay(
        self, number: int, page: list[DeadLetter], pace: Pace
    ) -> AsyncIterator[Literal["working", "resting", "waiting for Redis"]]:
        """Replay what matches of a page. Its last step has the page's last ID as its cursor."""
        ids, unfinished = self._sorted(number, page)
        has_more = True
        while has_more:
            some = ids[: pace.step]
            after = page[-1].id if len(some) == len(ids) else some[-1]
            await pace.wait(len(some))
            away = 0.0
            while True:
                before = self._done[number].cursor
                try:
                    state, done = await self._step(number, some, before, after, unfinished)
                except StreamUnavailableError:
                    away += _REST
                    if away > _AWAY:
                        raise
                    yield "waiting for Redis"
                else:
                    if state != "rests":
                        break
                    yield "resting"
                await asyncio.sleep(_REST)
            self._done[number], unfinished = done, 0
            rest = some[some.index(done.cursor) + 1 :] if done.cursor in some else []
            has_more = done.cursor != page[-1].id
            ids = rest + ids[len(some) :]
            yield "working"

    async def _step(
        self,
        number: int,
        ids: list[str],
        before: str,
        after: str,
        unfinished: int,
        *,
        acts: bool = True,
    ) -> tuple[str, ReplayProgress]:
        state, done = await self._replays.step(
            number,
            self.name if acts else "",
            self._run,
            ids,
            before=before,
            after=after,
            unfinished=unfinished,
            handler=self.plan.to,
            limits=self._limits,
            acts=acts,
        )
        # A step that ended early, and whose reply was lost, has another cursor: one of its own.
        if state == "taken over" or (state == "other cursor" and done.cursor not in ids):
            raise ReplayTakenOverError(
                "another replay of this group has begun, or the group was made again: nothing more "
                "is replayed here"
            )
        return state, done

    def _sorted(self, number: int, page: list[DeadLetter]) -> tuple[list[str], int]:
        """Return the IDs of what matches and is finished, and how many match and are unfinished."""
        matching = [entry.id for entry in page if self.plan.wanted.matches(entry.fields)]
        tokens = self._unfinished.tokens[number]
        finished = [entry_id for entry_id in matching if entry_id.encode() not in tokens]
        return finished, len(matching) - len(finished)

    def _sample(self, page: list[DeadLetter], ids: set[str]) -> None:
        for entry in page:
            if entry.id in ids and len(self.sample) < SAMPLE:
                self.sample.append(describe_entry(entry))

    async def _pages(self, cursors: list[str]) -> AsyncIterator[tuple[int, list[DeadLetter]]]:
        """Yield pages of the partitions in turn, from behind the cursors on, which the caller
        moves.
        """
        whole = self.plan.wanted.reads_bodies
        left = list(range(self._replays.partitions))
        while left:
            for number in left.copy():
                cursor = cursors[number]
                first = self.plan.first if cursor == "-" else f"({cursor}"
                last = self.plan.wanted.bounded(self.plan.last[number])
                page = await self._replays.survey(number, first, last, _PAGE, whole=whole)
                if not page:
                    left.remove(number)
                    continue
                self._looked_at += len(page)
                yield number, page


@asynccontextmanager
async def opened(
    settings: Settings,
    wanted: ReplayFilter | None = None,
    *,
    to: str = "",
    rate: float | None = None,
    only: str = "",
) -> AsyncIterator[Replay]:
    """Open a new replay of the settings' group; with `only`, of the message with this entry.

    Raises `ReplayRefusedError` where it may not be, and `SearchRefusedError` where a condition asks
    for what a source redacts.
    """
    wanted = wanted or ReplayFilter()
    async with await open_stream(settings) as client:
        (await shown_by(client, settings)).check_where(wanted.where, wanted.source)
        facts = await group_facts(client, settings)
        if wanted.handler is not None:
            name, patterns = known_handler(facts, wanted.handler)
            wanted = msgspec.structs.replace(wanted, handler=name, patterns=patterns)
        if to := to or wanted.handler or "":
            to, _ = known_handler(facts, to)
        first = f"{max(wanted.since_ms or 0, await made_ms(client, settings.group))}-0"
        last: tuple[str, ...] = ()
        one: OneMessage | None = None
        if only:
            one, last = bounds_of_one(only, first, len(client.partitions))
            first = one.token
        plan = ReplayPlan(wanted=wanted, to=to, rate=rate, first=first, last=last)
        async with _closing(Replay(client, settings, secrets.token_hex(4), plan, one)) as replay:
            yield replay


@asynccontextmanager
async def resumed(settings: Settings, name: str) -> AsyncIterator[Replay]:
    """Open a replay that was interrupted. Raises `ReplayRefusedError` if there is none."""
    async with await open_stream(settings) as client:
        await group_facts(client, settings)
        plans = await Replays(client, settings.group).plans()
        if name not in plans:
            others = f" Those that were interrupted: {', '.join(sorted(plans))}" if plans else ""
            raise ReplayRefusedError(
                f"no replay {name} of group {settings.group} can be resumed: it has ended, or is "
                f"older than a week.{others}"
            )
        plan = msgspec.json.decode(plans[name], type=ReplayPlan)
        async with _closing(Replay(client, settings, name, plan)) as replay:
            yield replay


@asynccontextmanager
async def _closing(replay: Replay) -> AsyncIterator[Replay]:
    try:
        yield replay
    finally:
        await replay.close()
