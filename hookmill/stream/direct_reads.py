"""Reads new entries directly: XREADGROUP sends the bodies, and a script decides about them.

A script that reads has Redis copy each body twice. A direct read costs about half of that, but more
for each call, and it reads only the stream. So it is for partitions under load, of which nothing
is to be taken again. It is a transaction: `direct_read.lua` before and behind XREADGROUP.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from hookmill.errors import StreamUnavailableError
from hookmill.stream.client import Client
from hookmill.stream.codec import directly_taken_of, taking_keys
from hookmill.stream.connections import Command
from hookmill.stream.entries import AGAIN, Taken
from hookmill.stream.keys import GroupKeys
from hookmill.stream.reply_errors import DiscardedError, is_missing_script
from hookmill.stream.script_runner import ScriptRunner

LEAST = 16
"""Entries to read from a partition, at least: with fewer, `take.lua` costs less. Where the largest
entry allows less than half of what is wanted, `take.lua` brings more in one round trip.
"""

REST = 10.0
"""Seconds without direct reads of a partition where one was in vain: its gate was shut, or its
index had less than half, and the others were read twice. So it is where an older release appends.
"""


class DirectReads:
    """The direct reads of one consumer. `names` are its group's and its own name, and the duplicate
    window in seconds. `clock` returns monotonic seconds.
    """

    def __init__(
        self,
        client: Client,
        scripts: ScriptRunner,
        names: Sequence[Any],
        partitions: Sequence[GroupKeys],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._scripts = scripts
        self._names = names
        self._streams = client.partitions
        self._partitions = partitions
        self._clock = clock
        self._number = itertools.count()
        self._fit: set[int] = set()
        """The partitions that may be read directly."""
        self._rests: dict[int, float] = {}
        """Until when a partition is not read directly, by `clock`."""
        self.pauses: dict[int, int] = {}
        """The versions of the pauses that partitions have told; who heeds them clears it."""

    def sizes(
        self, shares: Mapping[int, int], largest: Mapping[int, int], max_bytes: int
    ) -> dict[int, int]:
        """Return how many entries to read from each of these partitions, or nothing where not all
        of them may be read directly. `shares` are the most, `largest` are the bytes of each
        partition's largest entry, and `max_bytes` are the most from one partition.
        """
        if not self._fit.issuperset(shares):
            return {}
        sizes = {
            number: min(share, max_bytes // max(1, largest[number]))
            for number, share in shares.items()
        }
        are_enough = all(size >= max(LEAST, shares[number] / 2) for number, size in sizes.items())
        return sizes if are_enough else {}

    def note_take(self, number: int, reply: Any) -> None:
        """Note what `take.lua` has replied of a partition: under load, and where nothing was to be
        taken again, the next read may be a direct one.
        """
        runs, *_, left = reply
        taken = sum(len(words) // (len(names) + 2) for _, _, names, words in runs)
        is_again = any(key_number == AGAIN for key_number, *_ in runs)
        if is_again or not left:
            self._fit.discard(number)
        elif taken >= LEAST and self._clock() >= self._rests.get(number, 0.0):
            self._fit.add(number)

    async def read(
        self, sizes: Mapping[int, int], largest: Mapping[int, int], allowance: float
    ) -> list[Taken | Exception | None]:
        """Read so many entries from each partition in one round trip. Return for each what it gave,
        its error, or None where it was not read: then `take.lua` has to be asked.
        """
        self._fit.difference_update(sizes)  # until this read says that they are
        sha = await self._scripts.loaded("direct_read")
        name = f"{self._names[1]}/{next(self._number)}"
        each = [
            [
                (number, command)
                for command in self._commands(number, sha, size, largest[number], name)
            ]
            for number, size in sizes.items()
        ]
        replies = await self._client.ask_places(itertools.chain(*each), allowance=allowance)
        of_exec = replies[len(each[0]) - 1 :: len(each[0])]
        return [
            self._result_of(number, reply) for number, reply in zip(sizes, of_exec, strict=True)
        ]

    def _commands(
        self, number: int, sha: str, count: int, largest: int, name: str
    ) -> tuple[Command, ...]:
        """Return the transaction that reads a partition."""
        group, of_all = self._partitions[number], self._streams[number]
        used = [*taking_keys(group), of_all.index, group.gate, of_all.backlog, group.wake]
        keys = self._scripts.fenced(number, used)
        args = [*self._names, count, largest, name]
        reader, of_streams = self._names[:2], (group.gate, group.stream, ">", ">")
        return (
            ("MULTI",),
            ("EVALSHA", sha, len(keys), *keys, "begin", *args),
            ("XREADGROUP", "GROUP", *reader, "COUNT", count, "STREAMS", *of_streams),
            ("EVALSHA", sha, len(keys), *keys, "end", *args),
            ("EXEC",),
        )

    def _result_of(self, number: int, reply: Any) -> Taken | Exception | None:
        """Return what one transaction has brought, by the reply to EXEC. None: nothing was read."""
        if isinstance(reply, DiscardedError):
            # A full Redis takes no transaction: `take.lua` reads there, or says why not.
            self._rest(number)
            return None
        if isinstance(reply, Exception):
            return reply
        begun, read, ended = reply
        if is_missing_script(begun) or is_missing_script(ended):
            self._scripts.forget()
        if isinstance(read, Exception):
            self._rest(number)
            return None  # the gate was shut, or the group is gone: `take.lua` will say so
        # What runs is known only with all three replies. Otherwise the entries are recovered.
        taken = directly_taken_of(number, read, ended) if begun == 1 else None
        if taken is None:
            why = (
                f": {ended}" if isinstance(ended, Exception) else ""
            )  # else it is as long as a take
            return StreamUnavailableError(
                f"partition {number}: it is not decided what runs of what was read{why}"
            )
        *_, read_twice, again, self.pauses[number], _ = ended
        if 2 * read_twice > taken.read:
            self._rest(number)
        elif taken.has_more and not again:
            self._fit.add(number)
        return None if taken.is_empty and again else taken

    def _rest(self, number: int) -> None:
        self._rests[number] = self._clock() + REST
