"""Looks at who still holds what, so that silent holders are found.

The rule that says who is silent is in `scripts/silence.lua`. What was watched is kept in Redis with
its age, so whichever worker looks next goes on from there.
"""

from __future__ import annotations

from typing import NamedTuple

from hookmill.stream.client import Client
from hookmill.stream.heartbeats import PLACE
from hookmill.stream.keys import GroupKeys
from hookmill.stream.script_runner import Call, ScriptRunner


class Turn(NamedTuple):
    """A reply to the question whose turn it is to look.

    `number` is that of the last look. `found_by` is that of the last look that came to its end, and
    `found` the partitions in which it found entries that may be taken over.
    """

    number: str
    is_ours: bool
    found_by: str
    found: tuple[int, ...]


class Looks:
    """The looks of a group, as one consumer takes part in them. Methods raise
    `StreamUnavailableError`.
    """

    def __init__(self, client: Client, group: str, consumer: str) -> None:
        self._partitions = [keys.of_group(group) for keys in client.partitions]
        self._names = [group, consumer]
        self._scripts = ScriptRunner(client, drains=True)
        self._keys = [self._partitions[PLACE].looks]

    async def ask(self, seen: str) -> Turn:
        """Ask whether it is our turn. `seen` is the number that we saw last; "" at first.

        If it is, nobody else has looked since then, and the number has been raised for our look.
        """
        number, is_ours, found = await self._scripts.run("look", Call(PLACE, self._keys, [seen]))
        found_by, _, partitions = found.decode().partition(" ")
        several = len(self._partitions)
        return Turn(
            number.decode(),
            is_ours == 1,
            found_by,
            tuple(each for each in map(int, filter(None, partitions.split(","))) if each < several),
        )

    async def watch(
        self, number: str, watched: float | None, before: str, lease: float
    ) -> list[int]:
        """Note in each partition for how long the holders have been silent; return the partitions
        in which entries may be taken over.

        `number` is that of our look. `watched` is for how many seconds this worker has watched.
        None means that nobody watched for a while, so all ages begin at 0 again. `before` is the
        last look that was over when this worker began to watch ("": none).
        """
        ms = -1 if watched is None else int(watched * 1000)
        args = [*self._names, number, ms, before or "0", int(lease * 1000)]
        replies = await self._scripts.run_each(
            "watch",
            [Call(place, _watch_keys(keys), args) for place, keys in enumerate(self._partitions)],
        )
        found = [place for place, is_found in enumerate(replies) if is_found]
        args = [number, ",".join(map(str, found))]
        await self._scripts.run("looked", Call(PLACE, self._keys, args))
        return found


def _watch_keys(keys: GroupKeys) -> list[str]:
    """Return the keys of `watch.lua`, in its order."""
    return [keys.stream, keys.again, keys.lease_numbers, keys.watched, keys.deliveries]
