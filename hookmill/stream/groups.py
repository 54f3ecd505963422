"""Which consumer groups there are: made on purpose, added, dropped.

A hash in each partition has a note of each group (scripts/group_state.lua states them). A group
that release 0.1 made has none, and is known all the same because Redis has it.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterable
from typing import Any, Literal, NamedTuple

from hookmill.errors import GroupLostError, GroupRefusedError, StreamUnavailableError
from hookmill.stream.client import Client, checked
from hookmill.stream.heartbeats import PLACE
from hookmill.stream.keys import Keys
from hookmill.stream.script_runner import Call, ScriptRunner
from hookmill.stream.view import first_seen, need_all, seen
from hookmill.stream.wakeup import is_wakeup_group, wakeup_group_of

From = Literal["beginning", "now"]
"""Where a new group starts: with all that the stream still has, or with what comes later."""

State = Literal["made", "adding", "dropping", "dropped"]


class KnownGroup(NamedTuple):
    """A group, as it is noted. `origin` is how it was made: `beginning`, `now`, `first` (by its
    first worker), "" where nobody noted it. `since_ms` is Unix milliseconds, 0 if unknown.
    `is_there`: Redis has it, in one partition at least.
    """

    name: str
    state: State = "made"
    origin: str = ""
    since_ms: int = 0
    is_there: bool = True


class Groups:
    """The consumer groups of a stream. Methods raise `StreamUnavailableError`."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._scripts = ScriptRunner(client, drains=True)

    async def known(self) -> dict[str, KnownGroup]:
        """Return all groups by their names, also those that were dropped."""
        place = first_seen(self._client)
        asked = [(place, ("HGETALL", self._client.partitions[place].groups))] + [
            (number, ("XINFO", "GROUPS", keys.stream)) for number, keys in seen(self._client)
        ]
        notes, *infos = await self._client.ask_places(asked)
        found = {name: KnownGroup(name) for info in infos for name in _names_in(info)}
        words = iter(checked(notes))
        for name, note in zip(map(_text, words), words, strict=True):
            found[name] = _known_of(name, _text(note))._replace(is_there=name in found)
        return dict(sorted(found.items()))

    async def check(self, name: str, *, may_make: bool = False) -> None:
        """Raise `GroupRefusedError` unless the group exists, or unless it may be made now."""
        known = await self.known()
        group = known.get(name)
        if group is None and not may_make:
            raise _unknown(name, known.values())
        if group is not None and group.state != "made":
            raise _refused(group)

    async def find(self, name: str) -> None:
        """Raise `GroupRefusedError` unless there is something of a group, if only its keys."""
        known = await self.known()
        if name not in known and not await self.has_keys(name):
            raise no_group(name, known.values())

    async def make(self, name: str) -> int:
        """Make the group where it is missing; return in how many streams it was made.

        Raises `GroupRefusedError` if it was dropped.
        """
        calls = [
            Call(number, [*_keys(keys, name), keys.of_group(name).counts], [name])
            for number, keys in self._each
        ]
        made = await self._scripts.run_each("open", calls)
        if min(made) < 0:
            group = (await self.known()).get(name)
            if group is None or group.state == "made":
                raise GroupLostError("the group is being added or dropped at this moment")
            raise _refused(group)
        return sum(made)

    async def add(self, name: str, start: From) -> None:
        """Make a new group in all partitions. Raises `GroupRefusedError` if there is one.

        A call that broke off can be repeated; until its end no worker works in the group.
        """
        await need_all(self._client)
        first = self._client.partitions[PLACE]
        call = Call(PLACE, [first.stream, first.groups], [name, start])
        if note := await self._scripts.run("claim_group", call):
            raise _refused_to_add(_known_of(name, _text(note)))
        others = [each for each in self._each if each[0] != PLACE]
        for number, keys in [*others, (PLACE, first)]:
            args = [name, start, int(number == PLACE)]
            call = Call(number, [*_keys(keys, name)], args)
            if not await self._scripts.run("add_group", call):
                raise GroupRefusedError(
                    f"group {shown(name)} was added or dropped by somebody else at the same time: "
                    "look with `hookmill group list`"
                )

    async def has_keys(self, name: str) -> bool:
        """Return whether any key of a group is there, whatever is known of the group."""
        asked = [
            (number, ("EXISTS", *keys.of_group(name).own)) for number, keys in seen(self._client)
        ]
        return any(map(checked, await self._client.ask_places(asked)))

    async def drop(self, name: str) -> None:
        """Remove a group with all of its keys, and note that it was dropped, so that no worker
        makes it again. Raises `GroupRefusedError` if a heartbeat of the group lives.

        A call that broke off can be repeated. The order of the steps matters: once a partition's
        group is noted as dropped and destroyed, which is one step, no script writes its keys there.
        """
        await need_all(self._client)
        for number, keys in self._each:  # PLACE comes first, because the heartbeats lie there
            own = keys.of_group(name)
            place = [keys.stream, own.again, own.heartbeats, own.heartbeat_times, keys.groups]
            call = Call(number, place, [name, wakeup_group_of(name)])
            alive, now = await self._scripts.run("drop_group", call)
            if alive:
                raise workers_run(name, sorted(map(_text, alive)))
        for number, keys in self._each:
            await self._client.execute(number, "UNLINK", *keys.of_group(name).own)
        async for number, found in self._more_keys(name):
            await self._client.execute(number, "UNLINK", *found)
        for number, keys in reversed(self._each):  # PLACE comes last, because it decides
            await self._client.execute(number, "HSET", keys.groups, name, b"dropped " + now)

    async def _more_keys(self, name: str) -> AsyncIterator[tuple[int, list[bytes]]]:
        """Yield the keys of a group whose names nobody knows in advance, by partition.

        Senders choose ordering keys, so a key of another group may look like one of this group:
        only the beginning of a name counts.
        """
        before = {
            number: tuple(f"{key}:".encode() for key in keys.of_group(name).own)
            for number, keys in self._each
        }
        prefix = self._client.partitions[PLACE].before
        async for page in self._client.scan(f"{_literal(prefix)}{{*}}:{_literal(name)}:*"):
            for number, beginnings in before.items():
                if found := [key for key in page if key.startswith(beginnings)]:
                    yield number, found

    @property
    def _each(self) -> list[tuple[int, Keys]]:
        return list(enumerate(self._client.partitions))


def shown(name: str) -> str:
    """Return a group's name without what would steer a terminal: anybody who may use Redis can make
    a group of any name.
    """
    return name.encode("unicode_escape").decode()


def no_group(name: str, known: Iterable[KnownGroup]) -> GroupRefusedError:
    """Return the error that names the groups there are."""
    names = ", ".join(shown(group.name) for group in known if group.state == "made")
    return GroupRefusedError(f"there is no group {shown(name)}; there are: {names or 'none'}")


def _unknown(name: str, known: Iterable[KnownGroup]) -> GroupRefusedError:
    """Return the same for a worker, with how to make the group."""
    return GroupRefusedError(
        f"{no_group(name, known)}. Make it once with `hookmill group add {shown(name)} --from "
        "beginning` (or `--from now`)"
    )


def workers_run(name: str, workers: Iterable[str]) -> GroupRefusedError:
    """Return the error that names the workers that keep a group from being dropped."""
    return GroupRefusedError(
        f"workers of group {shown(name)} run: {', '.join(map(shown, workers))}. Stop them first; a "
        "worker that was killed counts as running for one lease"
    )


def _refused(group: KnownGroup) -> GroupRefusedError:
    name = shown(group.name)
    if group.state == "adding":
        return GroupRefusedError(
            f"group {name} is only half made: finish `hookmill group add {name} "
            f"--from {group.origin}`"
        )
    if group.state == "dropping":
        return GroupRefusedError(
            f"group {name} is being dropped: finish `hookmill group drop {name}`"
        )
    return GroupRefusedError(
        f"group {name} was dropped. `hookmill group add {name} --from beginning` (or `--from now`) "
        "makes it again"
    )


def _refused_to_add(group: KnownGroup) -> GroupRefusedError:
    if group.state == "made":
        return GroupRefusedError(f"there is a group {shown(group.name)} already")
    return _refused(group)


def _keys(keys: Keys, group: str) -> list[str]:
    """Return the keys of the scripts that make a group."""
    of_group = keys.of_group(group)
    return [keys.stream, of_group.again, of_group.low_water, keys.groups]


def _names_in(info: Any) -> list[str]:
    """Return the names of the groups in a reply of XINFO GROUPS; none where there is no stream."""
    if isinstance(info, GroupLostError):
        return []
    if isinstance(info, StreamUnavailableError) and "no such key" in str(info):
        return []
    names = [dict(zip(row[::2], row[1::2], strict=True))[b"name"] for row in checked(info)]
    return [_text(name) for name in names if not is_wakeup_group(name)]


def _known_of(name: str, note: str) -> KnownGroup:
    """Read a note. One of a later release that this one does not know stands for a group."""
    match note.split():
        case ["made", origin, since] if since.isdecimal():
            return KnownGroup(name, "made", origin, int(since))
        case ["adding", origin]:
            return KnownGroup(name, "adding", origin)
        case ["dropping" | "dropped" as state, since] if since.isdecimal():
            return KnownGroup(name, state, "", int(since))
        case _:
            return KnownGroup(name)


def _literal(text: str) -> str:
    """Escape what has a meaning in a pattern of Redis."""
    return re.sub(r"([*?\[\]\\^])", r"\\\1", text)


def _text(word: bytes) -> str:
    return word.decode("utf-8", "surrogateescape")
