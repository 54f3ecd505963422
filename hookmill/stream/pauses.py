"""The pauses of a group: noted, listed, and ended. `scripts/held_back.lua` states how.

Each partition has all of them. A command that broke off halfway can be repeated.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from typing import NamedTuple

import msgspec

from hookmill.stream.client import Client
from hookmill.stream.facts import Pause
from hookmill.stream.keys import GroupKeys
from hookmill.stream.known_pauses import KnownPauses
from hookmill.stream.script_runner import Call, ScriptRunner
from hookmill.stream.view import need_all, seen

MOST_PAUSES = 100
"""How many pauses a group may have: each take that finds a new version reads all of them."""

ANY_TIME = 2**53
"""As the time since when a pause is on that is meant: whichever it is."""

STEP, STEP_BYTES = 100, 512 * 1024
"""How many entries one step of resuming moves at most, and after how many bytes it ends: other
commands wait meanwhile.
"""

_PAUSE = b"pause "

_NOTED = re.compile(rb"([a-z]+) ([0-9]{1,16}) (.*)", re.DOTALL)

_read = msgspec.json.Decoder(Pause).decode


class Step(NamedTuple):
    """One step of resuming: how many messages were put back, and how many are left."""

    moved: int
    left: int


class Pauses:
    """The pauses of a group in all partitions. Methods raise `StreamUnavailableError`."""

    def __init__(self, client: Client, group: str) -> None:
        self._client = client
        self._partitions = [keys.of_group(group) for keys in client.partitions]
        # Two runners, because a full Redis must take a pause, and a replica must show it.
        self._scripts = ScriptRunner(client, drains=True)
        self._reading = ScriptRunner(client, drains=False)

    @property
    def _backwards(self) -> list[int]:
        """The partitions; the first one comes last, because all workers look there."""
        return [*reversed(range(len(self._partitions)))]

    async def pause(self, pause: Pause) -> bool:
        """Note a pause, or what is new of it; return whether there was room for it. A call that
        broke off can be repeated.
        """
        await need_all(self._client)
        noted = msgspec.structs.replace(pause, held_back=0, until_ms=0, is_ending=False)
        args = [_raw(pause.name), pause.until_ms, msgspec.json.encode(noted), MOST_PAUSES]
        for number in self._backwards:
            keys = self._partitions[number]
            used = [keys.paused, keys.counts, keys.due, keys.sooner]
            if not await self._scripts.run("pause_on", Call(number, used, args)):
                return False
        return True

    async def resume(self, name: str, since_ms: int = ANY_TIME) -> AsyncGenerator[Step, None]:
        """End a pause, and put back what it held back, step by step. What was paused again after
        `since_ms` stays paused.
        """
        await need_all(self._client)
        for number in self._backwards:
            left = 1
            while left:
                moved, left = await self._resume(number, name, since_ms)
                yield Step(moved, left)

    async def end_due(self, partitions: Iterable[int]) -> None:
        """Go a step on with one pause of each of these partitions that has to end by itself."""
        await self._scripts.run_each("pause_end", [self._end(one, "", 0) for one in partitions])

    async def _resume(self, number: int, name: str, since_ms: int) -> tuple[int, int]:
        _, moved, left = await self._scripts.run("pause_end", self._end(number, name, since_ms))
        return moved, left

    def _end(self, number: int, name: str, since_ms: int) -> Call:
        keys = self._partitions[number]
        used = [keys.paused, keys.counts, keys.due, keys.sooner, keys.again, keys.wake]
        return Call(number, used, [_raw(name), STEP, STEP_BYTES, since_ms])

    async def listed(self) -> list[Pause]:
        """Return the pauses by their names, also those that only some partitions have."""
        numbers = [number for number, _ in seen(self._client)]
        found = await read_pauses(self._reading, self._partitions, numbers)
        merged: dict[str, Pause] = {}
        for noted in found:
            for one in noted.pauses:
                before = merged.get(one.name)
                held_back = one.held_back + (before.held_back if before else 0)
                since_ms = max(one.since_ms, before.since_ms if before else 0)
                merged[one.name] = msgspec.structs.replace(
                    one, held_back=held_back, since_ms=since_ms
                )
        return [merged[name] for name in sorted(merged)]


class PauseReader:
    """Reads the pauses for one worker, when they have changed. Methods raise
    `StreamUnavailableError`.
    """

    def __init__(self, scripts: ScriptRunner, partitions: Sequence[GroupKeys]) -> None:
        self.known = KnownPauses(len(partitions))
        self._scripts = scripts
        self._partitions = partitions

    async def heed(self, versions: Mapping[int, int]) -> None:
        """Read them again in those partitions that have told another version."""
        known = self.known.versions
        if older := [number for number, seen in versions.items() if known[number] != seen]:
            await self._read(older)

    async def heed_first(self, version: int) -> None:
        """Read all where the first partition has another version: it is changed last."""
        if self.known.versions[0] != version:
            await self._read(range(len(self._partitions)))

    async def _read(self, numbers: Sequence[int]) -> None:
        found = await read_pauses(self._scripts, self._partitions, numbers)
        for number, noted in zip(numbers, found, strict=True):
            self.known.note(number, noted.version, noted.pauses)
        self.known.noted()


class Noted(NamedTuple):
    """What is noted in one partition: the version, Redis' time (Unix milliseconds), the pauses."""

    version: int
    now_ms: int
    pauses: list[Pause]


async def read_pauses(
    scripts: ScriptRunner, partitions: Sequence[GroupKeys], numbers: Iterable[int]
) -> list[Noted]:
    """Read what is noted in these partitions."""
    calls = [Call(n, [partitions[n].paused, partitions[n].counts]) for n in numbers]
    replies = await scripts.run_each("pauses_read", calls)
    return [Noted(version, now_ms, _pauses_in(flat)) for version, now_ms, flat in replies]


def _pauses_in(flat: list[bytes]) -> list[Pause]:
    fields = dict(zip(flat[::2], flat[1::2], strict=True))
    found = []
    for field, value in fields.items():
        if not field.startswith(_PAUSE) or not (noted := _NOTED.fullmatch(value)):
            continue
        name = field.removeprefix(_PAUSE)
        state, ends, about = noted.groups()
        try:
            pause = _read(about)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            pause = Pause(kind="all")
        if _raw(pause.name) != name:
            pause = _by_name(name.decode("utf-8", "surrogateescape"))
        found.append(
            msgspec.structs.replace(
                pause,
                until_ms=int(ends),
                held_back=int(fields.get(b"count " + name, 0)),
                is_ending=state == b"resuming",
            )
        )
    return found


def _by_name(name: str) -> Pause:
    """Return a pause of which only the name can be read: another release has written the rest."""
    kind, _, value = name.partition(":")
    if kind == "key":
        source, _, value = value.partition(":")
        return Pause(kind="key", source=source, value=value)
    if kind == "handler":
        return Pause(kind="handler", value=value, names=(value,))
    return Pause(kind="source", value=value) if kind == "source" else Pause(kind="all")


def _raw(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")
