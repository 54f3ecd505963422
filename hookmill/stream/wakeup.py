"""Wakes up a worker that waits for an entry to take.

The protocol has parts in several scripts, in `consumer` and here; below it is stated whole.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from hookmill.stream.client import Client, checked
from hookmill.stream.connections import Command
from hookmill.stream.entries import Taken
from hookmill.stream.heartbeats import PLACE
from hookmill.stream.keys import GroupKeys, Keys
from hookmill.stream.script_runner import Call, ScriptRunner

# Entries to take. Each group has a set of wake-ups: a sorted set whose members are the partitions
# in which there may be something to take, each by the name of its again stream. A worker that
# waits takes one member out of that set, and blocks while it is empty. So it gets no body, and
# Redis gives each wake-up to one worker. All partitions on one server share one set, so a worker is
# blocked on two keys, however many partitions there are.
#
# The rule: where a partition has an entry to take, it is in the set; or the worker that took it out
# of the set is about to take from that partition; or that worker has died. Therefore:
#
# * Whatever adds an entry adds its partition to the set, in the same script: `append.lua` for each
#   group (`wake_all.lua`), all others for their own group (`wake.lua`).
# * A worker that was woken for a partition takes from it next. If it must not take any more, it
#   puts the partition back (`wake_another`).
# * A take that may leave entries behind adds the partition again, so the next worker is woken.
#   A take that leaves none removes it: nobody is woken for what is taken (`left_behind.lua`).
# * A wake-up is lost where the worker that received it dies. So one worker of the group takes from
#   all partitions now and then. Each worker looks after a wait that nothing ended, and twice in a
#   `WHOLE_TAKE_PERIOD`, whether another one has begun to since its own last look
#   (`look_at_whole_takes.lua`). If none has, it does it, and raises a number. So a lost wake-up is
#   found within that period, also where the last one that has raised the number has died, and all
#   workers together ask as often as one alone would. No clock but their own counts.
# * A worker takes from all partitions in any case where it is new, and where a wait or a take of
#   its own has failed.
#
# The second key is a set for all groups. `append.lua` adds to it where the stream has no group at
# all, because Redis lost it: a worker that waits finds that out, and makes its group again.
#
# Programs of release 0.1 add entries without a wake-up, because their workers block on the streams
# themselves, each group by a second consumer group `GROUP:bell`. They make it when they start. So
# for a while waits are short, and takes from all partitions frequent, where a take finds something
# after a wait that nothing ended, or beside what it was woken for something that is older. Such a
# worker asks all partitions, whatever the others do.

WHOLE_TAKE_PERIOD = 20.0
"""Seconds within which some worker takes from all partitions, although all are woken for single
ones.
"""

SHORT_WAIT = 0.1
"""Seconds of a wait, and between two takes from all partitions, while programs of release 0.1 add
entries without a wake-up.
"""

SHORT_FOR = 60.0
"""Seconds for which waits stay short after an entry that was found without a wake-up."""

OVERLOOKED_MS = 500
"""How much older than an entry of another partition one without a wake-up is at least. Of two
wake-ups, one may come a little later.
"""

_SUFFIX = ":bell"


def wakeup_group_of(group: str) -> str:
    """Return the name of the group by which release 0.1 woke the workers of a group."""
    return group + _SUFFIX


def is_wakeup_group(name: bytes) -> bool:
    """Return whether a consumer group in Redis is one by which release 0.1 woke its workers."""
    return name.endswith(_SUFFIX.encode())


class WakeUp:
    """What one worker waits for. All partitions lie on one server today; with several, each needs a
    connection of its own.

    `clock` returns monotonic seconds.
    """

    def __init__(
        self,
        client: Client,
        partitions: Sequence[Keys],
        groups: Sequence[GroupKeys],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._clock = clock
        self._keys = [
            *dict.fromkeys((*(keys.wake for keys in groups), *(keys.wake for keys in partitions)))
        ]
        self._partitions = {keys.again.encode(): number for number, keys in enumerate(groups)}
        self._groups = groups
        self._woken_for: int | None = None
        self._waited_in_vain = False
        self._taken_for: int | None = None
        self._short_until = -SHORT_FOR
        self._look_at = clock() + WHOLE_TAKE_PERIOD / 2
        """When to look whether other workers have taken from all partitions."""
        self._seen: int | None = None
        """How often they had begun to, at the last look; None: this worker is new."""
        self.is_whole_take_due = False
        """Whether the next take has to ask all partitions, although it was woken for one."""
        self._scripts = ScriptRunner(client, drains=True)
        self._new_entries = client.blocking(PLACE)

    async def wait(self, seconds: float) -> bool:
        """Wait until there may be something to take; return whether there may.

        A worker that gets True should take at once: no other is woken for the same entries.
        """
        now, is_due = self._clock(), self.is_whole_take_due
        if now < self._short_until:
            seconds = min(seconds, SHORT_WAIT)
        seconds = max(0.001, min(seconds, 0.0 if is_due else self._look_at - now))  # 0: for ever
        self.may_have_lost_one()
        found = await self._new_entries.ask(
            ("BZPOPMIN", *self._keys, f"{seconds:.3f}"), seconds, can_be_ended=True
        )
        self.is_whole_take_due = is_due or self._new_entries.was_dropped
        self._waited_in_vain = not found
        self._woken_for = self._partitions.get(found[1]) if found else None
        return bool(found)

    def woken_for(self) -> int | None:
        """Return the partition for which the last wait was ended, once; None: for none, or all."""
        self._taken_for, self._woken_for = self._woken_for, None
        return self._taken_for

    def may_have_lost_one(self) -> None:
        """Note that a reply with a wake-up, or the take after one, may be lost. It is not known for
        which partition, so the worker should take from all.
        """
        self.is_whole_take_due = True

    @property
    def is_look_due(self) -> bool:
        """Whether to `look` before the next take."""
        is_new = self._seen is None
        return is_new or self._waited_in_vain or self._clock() >= self._look_at

    async def look(self) -> bool:
        """Look whether this worker has to take from all partitions. Return whether it has to take
        at all: not where it has waited in vain, and another one takes from all.
        """
        now = self._clock()
        self._look_at = now + WHOLE_TAKE_PERIOD / 2
        if now < self._short_until:
            self.is_whole_take_due = True
            return True
        seen = self._seen
        try:
            call = Call(PLACE, [self._groups[PLACE].releaser], ["" if seen is None else seen])
            is_ours, self._seen = await self._scripts.run("look_at_whole_takes", call)
        except Exception:
            self.may_have_lost_one()
            raise
        self.is_whole_take_due |= seen is None or is_ours == 1
        if self._waited_in_vain and not self.is_whole_take_due:
            self._waited_in_vain = False
            return False
        return True

    def took(self, taken: Taken, *, from_all: bool) -> None:
        """Note what the worker found, and whether it took from all partitions."""
        now = self._clock()
        was_overlooked = from_all and self._taken_for is not None and self._has_overlooked(taken)
        if was_overlooked or (self._waited_in_vain and not taken.is_empty):
            self._short_until = now + SHORT_FOR
        if from_all:
            self.is_whole_take_due = False
            if now < self._short_until:
                self._look_at = now + min(SHORT_WAIT, WHOLE_TAKE_PERIOD)
        self._waited_in_vain = False

    def _has_overlooked(self, taken: Taken) -> bool:
        """Return whether this worker waited although there was an entry to take, until it was woken
        for another partition.
        """
        came = [(int(entry.ref.id.partition("-")[0]), entry.ref) for entry in taken.entries]
        newest = max((ms for ms, _ in came), default=0)
        return any(
            ms < newest - OVERLOOKED_MS for ms, ref in came if ref.partition != self._taken_for
        )

    async def wake_another(self) -> None:
        """Wake another worker in place of this one, which was woken and takes nothing more."""
        partition = self.woken_for()
        numbers = range(len(self._groups)) if partition is None else [partition]
        commands: list[tuple[int, Command]] = [
            (number, ("ZADD", self._groups[number].wake, 0, self._groups[number].again))
            for number in numbers
        ]
        for reply in await self._client.ask_places(commands):
            checked(reply)

    async def end_wait(self) -> None:
        """End a `wait` that is under way."""
        await self._new_entries.end_wait()

    async def close(self) -> None:
        """Close the connection."""
        await self._new_entries.close()
