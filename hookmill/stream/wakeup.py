"""Wakes up a worker that waits for an entry to take.

The protocol has parts in several scripts, in `consumer` and here; below it is stated whole.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from hookmill.stream.client import Client, checked
from hookmill.stream.connections import Command
from hookmill.stream.entries import Taken
from hookmill.stream.keys import GroupKeys, Keys

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
# * A wake-up is lost where the worker that received it dies. So a worker takes from all partitions
#   after a wait that nothing ended, and now and then in between (`WHOLE_TAKE_PERIOD`). It also does
#   where a wait or a take of its own has failed.
#
# The second key is a set for all groups. `append.lua` adds to it where the stream has no group at
# all, because Redis lost it: a worker that waits finds that out, and makes its group again.
#
# Programs of release 0.1 add entries without a wake-up, because their workers block on the streams
# themselves, each group by a second consumer group `GROUP:bell`. They make it when they start. So
# for a while waits are short, and takes from all partitions frequent, where a take finds something
# after a wait that nothing ended, or beside what it was woken for something that is older.

WHOLE_TAKE_PERIOD = 20.0
"""Seconds after which a worker takes from all partitions, although it is woken for single ones."""

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
        self._whole_take_at = clock() + WHOLE_TAKE_PERIOD
        self._new_entries = client.blocking(0)

    async def wait(self, seconds: float) -> bool:
        """Wait until there may be something to take; return whether there may.

        A worker that gets True should take at once: no other is woken for the same entries.
        """
        now, whole_take_at = self._clock(), self._whole_take_at
        if now < self._short_until:
            seconds = min(seconds, SHORT_WAIT)
        seconds = max(0.001, min(seconds, whole_take_at - now))  # 0 would be for ever
        self.may_have_lost_one()
        found = await self._new_entries.ask(
            ("BZPOPMIN", *self._keys, f"{seconds:.3f}"), seconds, can_be_ended=True
        )
        if found:
            self._whole_take_at = whole_take_at
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
        self._whole_take_at = self._clock()

    @property
    def is_whole_take_due(self) -> bool:
        """Whether the worker should take from all partitions, although it was woken for one."""
        return self._clock() >= self._whole_take_at

    def took(self, taken: Taken, *, from_all: bool) -> None:
        """Note what the worker found, and whether it took from all partitions."""
        now = self._clock()
        was_overlooked = from_all and self._taken_for is not None and self._has_overlooked(taken)
        if was_overlooked or (self._waited_in_vain and not taken.is_empty):
            self._short_until = now + SHORT_FOR
        if from_all:
            period = SHORT_WAIT if now < self._short_until else WHOLE_TAKE_PERIOD
            self._whole_take_at = now + min(period, WHOLE_TAKE_PERIOD)
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
