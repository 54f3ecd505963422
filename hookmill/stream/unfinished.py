"""Finds out which messages a group has unfinished, without holding up Redis or the workers."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any, NamedTuple

from hookmill.errors import HookmillError
from hookmill.stream.client import Client
from hookmill.stream.keys import GroupKeys
from hookmill.stream.script_runner import Call, ScriptRunner

# A replay must leave out what is unfinished: it would run twice. No index tells what is, because
# every success would have to keep it. What helps is that a finished message stays finished: nothing
# but a replay gives it a place in the group again. So it is enough to know what was unfinished at
# one moment. That is read step by step, while messages move from place to place:
#
# 1. `replay_begin.lua` notes the last ID that was delivered, and makes the hash `moves`. While it
#    is there, the workers' scripts note in it the owner token of each entry to which they give a
#    new place (`moves.lua`). It expires if nobody looks any more.
# 2. All places are read: dead letters, delayed, parked, paused, again, pending.
# 3. `moves` is read last.
#
# A message that was unfinished at the beginning lay in some place. Either it was still there when
# that place was read, or it had moved before, which was noted. It may also have finished since;
# then it is left out all the same. Messages that were delivered later are none of the replay's.
#
# For one message the same is asked, in its partition alone: its own pending entry, its own line of
# parked ones, and whether its token is among the moves. What is dead, is to be taken again, or is
# paused has no index by owner token, and the time of an ID proves nothing, because Redis' clock may
# have been set back. So these are read whole, and only its own token leaves Redis.
#
# Workers of release 0.1 note no moves, so none of them may run meanwhile. Its `hookmill dead
# replay` does no harm, because dead letters are read before all else.

NOTED_FOR = 60
"""Seconds for which moves are noted after the last step."""

SILENT = 60.0
"""Seconds of silence after which another run may take the right to replay."""

_STEP = 200
_STEP_BYTES = 512 * 1024
"""What one step reads at most: Redis serves nobody else meanwhile."""

_PAUSE = b"pause "
"""How the name of a field with a pause begins (`held_back.lua`)."""

_NAMES = 500
"""Names that are read at once. They have no bodies."""


class ReplayTakenOverError(HookmillError):
    """Another replay of this group runs, or the group was made again."""

    code = "replay_taken_over"


class OneMessage(NamedTuple):
    """The message of an entry of the stream: its partition and its owner token."""

    partition: int
    token: str


class UnfinishedWork:
    """What a group has unfinished; with `only`, whether this message is. `tokens` has the owner
    tokens of each partition, `last` the last ID that was delivered there when the look began.
    """

    def __init__(
        self, client: Client, group: str, run: str, only: OneMessage | None = None
    ) -> None:
        self._only = only
        self._token = "" if only is None else only.token
        self.tokens: dict[int, set[bytes]] = {}
        self.last: dict[int, str] = {}
        self._client = client
        self._group = group
        self._run = run
        self._partitions = [keys.of_group(group) for keys in client.partitions]
        self._scripts = ScriptRunner(client, drains=False)

    async def look(self) -> AsyncGenerator[int]:
        """Look at all partitions; yield how many entries were read so far. Raises
        `ReplayTakenOverError` where another run has the right to replay.
        """
        read = 0
        for number, keys in enumerate(self._partitions):
            if self._only is not None and number != self._only.partition:
                self.tokens[number], self.last[number] = set(), "0-0"
                continue
            self.last[number] = await self._begin(number, keys)
            tokens = self.tokens[number] = set()
            async for found in self._places(number, keys):
                tokens.update(found)
                read += len(found)
                yield read
            await self._step(number, keys, keys.again, "end", "")

    async def _begin(self, number: int, keys: GroupKeys) -> str:
        args = [self._group, self._run, NOTED_FOR, int(SILENT * 1000)]
        call = Call(number, [keys.stream, keys.again, keys.counts], args)
        last, _ = await self._scripts.run("replay_begin", call)
        if not last:
            raise ReplayTakenOverError(
                f"another replay of group {self._group} is under way: wait for its end"
            )
        return str(last.decode())

    async def _places(self, number: int, keys: GroupKeys) -> AsyncIterator[list[bytes]]:
        """Yield the owner tokens of all that is there, a step at a time."""
        async for tokens in self._read(number, keys, keys.dead, "stream"):
            yield tokens
        async for names in self._scanned(number, keys.delayed, is_sorted=True):
            yield self._of_it([name.partition(b"/")[0] for name in names])
        async for kind, name in self._lists(number, keys):
            async for tokens in self._read(number, keys, name, kind):
                yield tokens
        async for tokens in self._read(number, keys, keys.again, "stream"):
            yield tokens
        if self._only is None:
            async for tokens in self._pending(number, keys):
                yield tokens
            async for tokens in self._scanned(number, keys.moves):
                yield tokens
        else:
            yield await self._own(number, keys)

    async def _own(self, number: int, keys: GroupKeys) -> list[bytes]:
        """Return the message's token if it is pending, was not delivered yet, or has moved."""
        token = self._token
        pending = ("XPENDING", keys.stream, self._group, token, token, 1)
        is_pending = await self._client.execute(number, *pending)
        has_moved = await self._client.execute(number, "HGET", keys.moves, token)
        is_waiting = _parts(token) > _parts(self.last[number])
        return [token.encode()] if is_pending or is_waiting or has_moved is not None else []

    def _of_it(self, tokens: list[bytes]) -> list[bytes]:
        """Return those that are asked for."""
        only = self._token.encode()
        return [token for token in tokens if token == only] if only else tokens

    async def _lists(self, number: int, keys: GroupKeys) -> AsyncIterator[tuple[str, bytes]]:
        """Yield the lists of what is parked and of what is paused."""
        if self._only is None:
            async for places in self._scanned(number, keys.busy):
                for key in places:
                    yield "parked", f"{keys.parked}:".encode() + key
        elif line := await self._line_of(number, keys):
            yield "parked", f"{keys.parked}:".encode() + line
        async for notes in self._scanned(number, keys.paused):
            for note in notes:
                if note.startswith(_PAUSE):
                    yield "paused", f"{keys.paused}:".encode() + note.removeprefix(_PAUSE)

    async def _line_of(self, number: int, keys: GroupKeys) -> bytes:
        """Return the ordering key of the message with its source; b"" where it has none, or where
        its entry is gone, and with it what could be replayed.
        """
        token = self._token
        for _, flat in await self._client.execute(number, "XRANGE", keys.stream, token, token):
            fields = dict(zip(flat[::2], flat[1::2], strict=True))
            if key := fields.get(b"key"):
                return bytes(fields.get(b"source", b"") + b":" + key)
        return b""

    async def _read(
        self, number: int, keys: GroupKeys, key: str | bytes, kind: str
    ) -> AsyncIterator[list[bytes]]:
        position: str | bytes = ""
        while True:
            tokens, position = await self._step(number, keys, key, kind, position)
            yield tokens
            if not position:
                return

    async def _step(
        self, number: int, keys: GroupKeys, key: str | bytes, kind: str, position: str | bytes
    ) -> Any:
        args = [self._run, NOTED_FOR, kind, position, _STEP, _STEP_BYTES, self._token]
        call = Call(number, [keys.again, keys.counts, key], args)  # type: ignore[list-item]  # bytes
        reply = await self._scripts.run("replay_look", call)
        if reply is None:
            raise ReplayTakenOverError(
                f"the look at what group {self._group} has unfinished was interrupted: another "
                "replay has begun, or the group was made again"
            )
        return reply

    async def _scanned(
        self, number: int, key: str, *, is_sorted: bool = False
    ) -> AsyncIterator[list[bytes]]:
        """Yield the names in a hash or a sorted set. What is there all the time is not missed."""
        cursor = b"0"
        while True:
            # Each command is written whole, because the rights of a role are read from the code.
            of_hash = ("HSCAN", key, cursor, "COUNT", _NAMES)
            of_set = ("ZSCAN", key, cursor, "COUNT", _NAMES)
            command = of_set if is_sorted else of_hash
            cursor, rows = await self._client.execute(number, *command)
            yield rows[::2]
            if int(cursor) == 0:
                return

    async def _pending(self, number: int, keys: GroupKeys) -> AsyncIterator[list[bytes]]:
        """Yield the IDs of the stream's entries that are pending and were delivered before."""
        first = "-"
        while self.last[number] != "0-0":  # nothing was delivered yet
            rows = await self._client.execute(
                number, "XPENDING", keys.stream, self._group, first, self.last[number], _NAMES
            )
            yield [row[0] for row in rows]
            if len(rows) < _NAMES:
                return
            first = f"({rows[-1][0].decode()}"


def _parts(entry_id: str) -> tuple[int, int]:
    ms, _, sequence = entry_id.partition("-")
    return int(ms), int(sequence or 0)
