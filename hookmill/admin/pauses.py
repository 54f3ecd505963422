"""What an operator can do with pauses: pause a part of a group's work, resume it, list pauses.

Everything is returned as data; `hookmill/cli/pauses.py` prints it.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import msgspec

from hookmill.admin.audit import Operator, acting
from hookmill.admin.filters import LATEST_MS
from hookmill.admin.opening import open_stream
from hookmill.admin.units import moment, seconds_of, unix_ms_of
from hookmill.config.settings import DEFAULT_GROUP, Settings
from hookmill.errors import HookmillError, UsageError
from hookmill.printable import encodable, printable
from hookmill.stream.client import Client
from hookmill.stream.facts import GroupFacts, Heartbeat, Pause
from hookmill.stream.groups import Groups
from hookmill.stream.inspector import Inspector
from hookmill.stream.pauses import MOST_PAUSES, Pauses, Step


class PauseRefusedError(HookmillError):
    """What was asked for cannot be paused or resumed. The text says what can be."""

    code = "pause_refused"


class PauseTimeError(PauseRefusedError, UsageError):
    """The end of a pause is no time, or one that is over."""


def everything() -> Pause:
    """Return the pause of all that a group has."""
    return Pause(kind="all")


def of_handler(name: str) -> Pause:
    """Return the pause of a handler, by its name or one that it had earlier."""
    return Pause(kind="handler", value=name, names=(name,))


def of_source(name: str) -> Pause:
    """Return the pause of all messages of a source."""
    return Pause(kind="source", value=name)


def of_key(source: str, key: str) -> Pause:
    """Return the pause of the messages of a source that have this ordering key."""
    return Pause(kind="key", source=source, value=key)


async def pause(
    settings: Settings,
    target: Pause,
    operator: Operator | None = None,
    *,
    until: str = "",
    anyway: bool = False,
) -> Pause:
    """Pause a part of the work of the settings' group; return what is noted.

    Each worker heeds it with its next take; what has begun runs on. `until` is a time (ISO 8601, in
    UTC unless it says otherwise), or for how long: 90s, 10m, 2h, 7d; by Redis' clock. A pause that
    is there already gets the new end and reason. Raises `PauseRefusedError` if no worker has such a
    handler, or one would not heed the pause, unless `anyway`.
    """
    operator = operator or Operator.of(settings)
    async with _opened(settings) as client:
        pauses, now_ms = Pauses(client, settings.group), await _now_ms(client)
        if not anyway:
            facts = await Inspector(client).group(settings.group)
            _check_workers(facts, settings.lease)
            target = _known_target(target, facts, settings)
        until_ms = _until_ms(until, now_ms) if until else 0
        who, why = encodable(operator.name), encodable(operator.why)
        noted = msgspec.structs.replace(
            target, who=who, why=why, since_ms=now_ms, until_ms=until_ms
        )
        about = {
            "group": settings.group,
            "what": words_of(target),
            "until": moment(until_ms) or None,
        }
        async with acting(settings, "pause", about, operator, client=client):
            if not await pauses.pause(noted):
                raise PauseRefusedError(
                    f"there are {MOST_PAUSES} pauses: resume some of them first"
                )
    return noted


async def resume(
    settings: Settings, target: Pause, operator: Operator | None = None
) -> AsyncGenerator[Step, None]:
    """End a pause, and have what it held back taken again, in its order; yield after each step.

    Raises `PauseRefusedError` if there is no such pause.
    """
    async with _opened(settings) as client:
        pauses = Pauses(client, settings.group)
        found = _find(target, await pauses.listed(), settings.group)
        about, moved = {"group": settings.group, "what": words_of(found)}, 0
        async with acting(settings, "resume", about, operator, client=client) as act:
            async for step in pauses.resume(found.name, found.since_ms):
                moved += step.moved
                act.result(put_back=moved)
                yield step


class Listed(NamedTuple):
    """What is paused of a group, and the names of the workers that do not heed it."""

    pauses: list[Pause]
    heedless: list[str]


async def listed(settings: Settings) -> Listed:
    """Return what is paused of the settings' group."""
    async with _opened(settings) as client:
        found = await Pauses(client, settings.group).listed()
        if not found:
            return Listed([], [])
        facts = await Inspector(client).group(settings.group)
        return Listed(found, facts.heedless(settings.lease))


def words_of_heedless(worker: str) -> str:
    """Return what is wrong with a worker that does not heed pauses, and what to do."""
    return (
        f"worker {worker} is of an older release and does not heed pauses: it runs what is paused. "
        "Replace it"
    )


def describe(pause: Pause) -> dict[str, Any]:
    """Return a pause as JSON-ready values. Times are ISO 8601 in UTC, None if there is none."""
    return {
        "kind": pause.kind,
        **({"source": pause.source} if pause.kind == "key" else {}),
        **({pause.kind: pause.value} if pause.kind != "all" else {}),
        "who": pause.who,
        "why": pause.why,
        "since": moment(pause.since_ms) or None,
        "until": moment(pause.until_ms) or None,
        "held_back": pause.held_back,
        "state": "ending" if pause.is_ending else "on",
    }


def words_of(pause: Pause) -> str:
    """Return what a pause is about, in words."""
    if pause.kind == "all":
        return "everything"
    if pause.kind == "key":
        return f"key {pause.value} of source {pause.source}"
    return f"{pause.kind} {pause.value}"


@asynccontextmanager
async def _opened(settings: Settings) -> AsyncIterator[Client]:
    async with await open_stream(settings) as client:
        if settings.group != DEFAULT_GROUP:
            await Groups(client).find(settings.group)
        yield client


async def _now_ms(client: Client) -> int:
    seconds, microseconds = await client.execute(0, "TIME")
    return int(seconds) * 1000 + int(microseconds) // 1000


def _check_workers(group: GroupFacts, lease: float) -> None:
    """Refuse where a worker runs that would not heed a pause."""
    if older := group.cannot_pause(lease):
        names = ", ".join(map(printable, older))
        raise PauseRefusedError(
            f"workers of an older release run, which do not heed a pause: {names}. Replace them "
            "first, or give --anyway"
        )


def _known_target(target: Pause, group: GroupFacts, settings: Settings) -> Pause:
    """Return what to pause, with all names of its handler. Refuse a name that nobody knows."""
    if target.kind == "handler":
        return _known_handler(target, group.heartbeats, group.name)
    source = target.source if target.kind == "key" else target.value
    known = {*settings.sources, "qstash", "marble"} if settings.sources else {source}
    if target.kind != "all" and source not in known:
        raise PauseRefusedError(
            f"no source is named {printable(source)}; there are: {', '.join(sorted(known))}. "
            "--anyway pauses it all the same"
        )
    return target


def _known_handler(target: Pause, workers: Iterable[Heartbeat], group: str) -> Pause:
    name, names, known = target.value, {target.value}, set[str]()
    for one in workers:
        known |= one.handlers.keys()
        name = one.aliases.get(name, name)
        # Workers of two releases may run, with the old name and the new one.
        names |= {each for pair in one.aliases.items() if names & {*pair} for each in pair}
    if not names & known:
        there = ", ".join(map(printable, sorted(known)))
        raise PauseRefusedError(
            f"no worker of group {printable(group)} that runs has a handler "
            f"{printable(target.value)}; there are: {there or 'none'}. --anyway pauses it all the "
            "same"
        )
    return Pause(kind="handler", value=name, names=tuple(sorted(names)))


def _find(target: Pause, pauses: list[Pause], group: str) -> Pause:
    for one in pauses:
        if one.name == target.name or (
            target.kind == one.kind == "handler" and target.value in one.names
        ):
            return one
    there = ", ".join(printable(words_of(one)) for one in pauses)
    raise PauseRefusedError(
        f"{printable(words_of(target))} is not paused in group {printable(group)}; paused are: "
        f"{there or 'none'}"
    )


def _until_ms(until: str, now_ms: int) -> int:
    seconds = seconds_of(until)
    try:
        ms = unix_ms_of(until) if seconds is None else now_ms + seconds * 1000
    except ValueError:
        raise PauseTimeError(
            f"until {printable(until)}: give a time such as 2026-11-21T09:30 (UTC), or for how "
            "long: 30m, 2h, 7d"
        ) from None
    if not now_ms < ms <= LATEST_MS:
        raise PauseTimeError(f"until {printable(until)}: by Redis' clock that time is over already")
    return ms
