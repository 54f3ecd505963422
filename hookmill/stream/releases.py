"""Releases delayed messages when they are due: one worker does it for all.

The protocol has parts in three scripts, here and in `worker/delayed.py`; below it is stated whole.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from hookmill.stream.client import Client
from hookmill.stream.heartbeats import PLACE
from hookmill.stream.keys import GroupKeys
from hookmill.stream.script_runner import Call, ScriptRunner

# One worker of a group is the releaser. It sleeps until the first delayed message is due, and moves
# what is due to the again stream. It raises a number with each step. The others look a moment later
# whether the number has moved. If it has not, one of them takes the task over. There is no claim
# that expires by Redis' clock: each worker measures by its own monotonic clock how long the number
# stands still. Two releasers at once do no harm, because a release is one script.
#
# * `due` is a sorted set: each partition that has delayed messages (by the name of its again
#   stream), with the time at which the first of them is due. `settle.lua` and `release.lua` keep it
#   (`due.lua`), so a worker looks at one key, not at every partition. The time may be too early,
#   where a worker of release 0.1 has moved the message. Where one of those has delayed a message,
#   the partition may be missing, so the releaser looks at every partition now and then.
# * Where a message is delayed that is due before all others, `settle.lua` adds an entry to the
#   stream `sooner`. All workers wait for that, without a group: each must know, because the
#   releaser may have died, and so may the one that delayed the message.
# * A pause that ends by itself stands in `due` too, by the name of its partition's pauses, and the
#   releaser ends it. `pause_on.lua` and `pause_end.lua` keep that (`pauses_due.lua`). They add an
#   entry to `sooner` as well, so all workers look at once, and learn from the version in the reply
#   that the pauses have changed. A releaser of an older release ends no pause: where one is late,
#   another worker takes the task over.
# * `look_at_delayed.lua` says who the releaser is, and what is due. Where there is none, the worker
#   that looks is the releaser.


class Look(NamedTuple):
    """What a worker sees: whether it is the releaser, the number that the releaser raises, the
    seconds until the first delayed message or the end of a pause is due (None: none is), the
    partitions in which messages or pauses are due now (for others than the releaser: are late), and
    the version of the pauses.
    """

    is_releaser: bool
    number: int
    next_due: float | None
    due: list[int]
    pauses_due: list[int]
    pauses_version: int


class Releases:
    """The delayed messages of a group, as one worker sees them. They lie in one lane."""

    def __init__(self, client: Client, group: str, consumer: str) -> None:
        self._place = PLACE
        self._partitions = [keys.of_group(group) for keys in client.partitions]
        self._numbers = {keys.again.encode(): n for n, keys in enumerate(self._partitions)}
        self._pauses = {keys.paused.encode(): n for n, keys in enumerate(self._partitions)}
        self._consumer = consumer
        self._scripts = ScriptRunner(client, drains=True)
        self._sooner = client.blocking(self._place)
        self._known: bytes | str = "$"

    async def look(self, *, instead_of: int | None = None) -> Look:
        """Look at what is delayed. Take the releaser's task over if its number is `instead_of`."""
        keys = self._partitions[self._place]
        args = [self._consumer, "" if instead_of is None else instead_of]
        call = Call(self._place, [keys.releaser, keys.due, keys.sooner, keys.counts], args)
        reply = await self._scripts.run("look_at_delayed", call)
        is_ours, number, wait_ms, self._known, due, version = reply
        partitions = [self._numbers[name] for name in due if name in self._numbers]
        pauses = [self._pauses[name] for name in due if name in self._pauses]
        next_due = None if wait_ms < 0 else wait_ms / 1000
        return Look(is_ours == 1, number, next_due, partitions, pauses, version)

    async def release(
        self, count: int, partitions: Iterable[int] | None = None
    ) -> tuple[int, float | None]:
        """Move due messages of these partitions (None: of all) to the again stream, up to `count`
        in each.

        Return the most that were moved in one partition, and the seconds until the next message is
        due there (None: none is delayed).
        """
        numbers = range(len(self._partitions)) if partitions is None else partitions
        replies = await self._scripts.run_each(
            "release",
            [
                Call(number, _keys_of_release(self._partitions[number]), [count])
                for number in numbers
            ],
        )
        waits = [wait_ms for _, wait_ms in replies if wait_ms >= 0]
        return max(moved for moved, _ in replies), min(waits) / 1000 if waits else None

    async def wait_for_sooner(self, seconds: float) -> bool:
        """Wait until a message is delayed that is due before all that the last look saw; return
        whether there was one. Wait at most `seconds`.
        """
        ms = max(1, round(seconds * 1000))
        key = self._partitions[self._place].sooner
        command = ("XREAD", "BLOCK", ms, "STREAMS", key, self._known)
        return bool(await self._sooner.ask(command, seconds))

    async def close(self) -> None:
        """Close the connection."""
        await self._sooner.close()


def _keys_of_release(keys: GroupKeys) -> list[str]:
    return [
        *(keys.again, keys.delayed, keys.delayed_entries),
        *(keys.due, keys.counts, keys.wake),
    ]
