"""Wakes up a worker that waits: for a new entry, or for a message that is delayed.

The protocol has parts in four scripts and here; below it is stated whole.
"""

from __future__ import annotations

from collections.abc import Sequence

from hookmill.stream.client import Client
from hookmill.stream.connections import Command
from hookmill.stream.keys import GroupKeys

# New entries. Each consumer group has a second one beside it in both of its streams, the wake-up
# group `GROUP:bell`. A worker that found nothing to take reads from that group and waits. The group
# acknowledges as it reads, and gives each entry to one reader: so an entry wakes one worker. The
# entry itself is taken by `take.lua` alone, which knows who owns its message ID.
#
# * `open.lua` makes the wake-up groups, at the end of both streams.
# * `take.lua` moves the wake-up group to the end of a stream in which it found nothing, so that
#   only what comes after that wakes a worker. Therefore a worker takes before it waits.
# * `wait` may get an entry from several streams at once, but it wakes one worker only. So it moves
#   the group back in all streams but the first: there the same entries wake other workers.
# * A worker may be woken for an entry that another one has taken meanwhile. It finds nothing, and
#   waits again.
#
# Delayed messages. All workers sleep until the first delayed message is due. Where a message is
# delayed that is due before that, `settle.lua` adds an entry to the stream `GROUP:sooner`. All
# workers read that stream, without a group: each of them must know, because the one that delayed
# the message may die.
#
# * `release.lua` moves what is due to the again stream, and returns the last ID of `sooner`.
# * `wait_for_sooner` waits for an entry after that ID.

_SUFFIX = ":bell"

_CONSUMER = "bell"
"""The one consumer of a wake-up group: a group needs a name there, and nothing is pending."""


def wakeup_group_of(group: str) -> str:
    """Return the name of the wake-up group of a consumer group."""
    return group + _SUFFIX


def is_wakeup_group(name: bytes) -> bool:
    """Return whether a consumer group in Redis is one that wakes up the workers of another."""
    return name.endswith(_SUFFIX.encode())


class WakeUp:
    """What one worker waits for. It has two connections, because it may wait for both at once.

    All partitions lie on one server today; with several, each needs connections of its own.
    """

    def __init__(self, client: Client, group: str, partitions: Sequence[GroupKeys]) -> None:
        self.group = wakeup_group_of(group)
        self._client = client
        self._partitions = {
            key.encode(): number
            for number, keys in enumerate(partitions)
            for key in (keys.again, keys.stream)
        }
        self._sooner = [keys.sooner for keys in partitions]
        self._known: Sequence[bytes | str] = ["$"] * len(partitions)
        self._new_entries = client.blocking(0)
        self._delayed_sooner = client.blocking(0)

    async def wait(self, seconds: float) -> bool:
        """Wait until there may be something to take; return whether there may.

        A worker that gets True should take at once: no other is woken for the same entry.
        """
        command = (
            *("XREADGROUP", "GROUP", self.group, _CONSUMER, "COUNT", 1),
            *("BLOCK", max(1, int(seconds * 1000)), "NOACK"),  # BLOCK 0 would be for ever
            *("STREAMS", *self._partitions, *(">" for _ in self._partitions)),
        )
        found = await self._new_entries.ask(command, seconds, can_be_ended=True) or []
        back: list[tuple[int, Command]] = [
            (self._partitions[key], ("XGROUP", "SETID", key, self.group, _before(entries[0][0])))
            for key, entries in found[1:]
        ]
        if back:
            await self._client.ask_places(back)
        return bool(found)

    async def end_wait(self) -> None:
        """End a `wait` that is under way."""
        await self._new_entries.end_wait()

    def knows(self, sooner: Sequence[bytes]) -> None:
        """Note the last ID of each partition's `sooner` stream that this worker has seen."""
        self._known = sooner

    async def wait_for_sooner(self, seconds: float) -> None:
        """Wait until a worker delays a message that is due before all known ones.

        Wait at most `seconds`.
        """
        ms = max(1, round(seconds * 1000))
        command = ("XREAD", "BLOCK", ms, "STREAMS", *self._sooner, *self._known)
        await self._delayed_sooner.ask(command, seconds)

    async def close(self) -> None:
        """Close the connections."""
        await self._new_entries.close()
        await self._delayed_sooner.close()


def _before(entry_id: bytes) -> str:
    """Return the ID that comes just before another."""
    ms, sequence = map(int, entry_id.split(b"-"))
    return f"{ms}-{sequence - 1}" if sequence else f"{ms - 1}-{2**64 - 1}"
