"""What an operator can ask and do with consumer groups: list them, add one, drop one.

Everything is returned as data; `hookmill/cli/groups.py` prints it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgspec

from hookmill.admin.audit import Operator, acting
from hookmill.admin.opening import open_stream
from hookmill.admin.status import oldest_age
from hookmill.config.settings import Settings
from hookmill.errors import PartitionsError, SettingsError
from hookmill.stream.client import Client
from hookmill.stream.facts import SILENCE, GroupFacts, Overview
from hookmill.stream.groups import From, Groups, KnownGroup, workers_run
from hookmill.stream.inspector import Inspector
from hookmill.stream.view import need_all


class ListedGroup(NamedTuple):
    """A group as it is noted, and what is known of its work; None where Redis has lost it."""

    known: KnownGroup
    facts: GroupFacts | None


async def list_all(settings: Settings) -> tuple[Overview, list[ListedGroup]]:
    """Return all groups that were not dropped, by their names, and what the stream holds."""
    async with await open_stream(settings) as client:
        known = await Groups(client).known()
        overview = await Inspector(client).overview()
    facts = {group.name: group for group in overview.groups}
    # One that is noted as dropped and is there all the same was made again by release 0.1.
    names = sorted({*(name for name in known if known[name].state != "dropped"), *facts})
    groups = [(known.get(name, KnownGroup(name)), facts.get(name)) for name in names]
    return overview, [ListedGroup(*group) for group in groups]


async def add(settings: Settings, name: str, start: From, operator: Operator | None = None) -> None:
    """Make a new group. Raises `GroupRefusedError` if there is one of this name."""
    about = {"group": name, "from": start}
    async with (
        _writing(settings) as client,
        acting(settings, "group add", about, operator, client=client),
    ):
        await Groups(client).add(name, start)


async def drop(
    settings: Settings,
    name: str,
    confirm: Callable[[GroupFacts], bool],
    operator: Operator | None = None,
) -> bool:
    """Remove a group with all of its keys, for good; return whether it was done.

    `confirm` gets what goes with it, and decides. Raises `GroupRefusedError` if there is no such
    group, or if a worker of it runs. A call that broke off can be repeated.
    """
    async with await open_stream(settings) as client:
        groups = Groups(client)
        known = await groups.known()
        await groups.find(name)  # one that somebody destroyed by hand has left its keys
        facts = await Inspector(client).group(name)
        if name in known and known[name].state == "dropped":  # what late workers may have left
            facts = msgspec.structs.replace(facts, waiting=0)
        if running := running_workers(facts, settings.lease):
            raise workers_run(name, running)
        if not confirm(facts):
            return False
        about = {"group": name, "unfinished": facts.backlog, "dead": facts.dead}
        async with acting(settings, "group drop", about, operator, client=client):
            await groups.drop(name)
    return True


def running_workers(group: GroupFacts, lease: float) -> list[str]:
    """Return the names of the workers that run: those with a heartbeat, those with a blocked event
    loop, and those of release 0.1 that were active lately. `lease` is in seconds.
    """
    silent = max(SILENCE, lease) * 1000
    older = [one for one in group.without_heartbeat if one.lease_number is None]
    names = [one.name for one in group.heartbeats]
    names += [one.name for one in group.blocked(lease)]
    names += [one.name for one in older if one.idle_ms < silent]
    return sorted(names)


async def add_if_unknown(settings: Settings, name: str) -> None:
    """Make a group that gets all that the stream has, unless there is one of this name."""
    async with _writing(settings) as client:
        groups = Groups(client)
        if name not in await groups.known():
            await groups.add(name, "beginning")


def describe(overview: Overview, group: ListedGroup, lease: float) -> dict[str, Any]:
    """Return what is known of a group as JSON-ready values. What is not known is None.

    `lease` (seconds) decides which workers of an older release still count as running.
    """
    known, facts = group
    since = datetime.fromtimestamp(known.since_ms / 1000, UTC) if known.since_ms else None
    seen: dict[str, Any] = {
        "name": known.name,
        "state": known.state,
        "from": known.origin or None,
        "since": since and since.isoformat(timespec="milliseconds"),
        **dict.fromkeys(("backlog", "backlog_bytes", "oldest_age")),
        **dict.fromkeys(("waiting", "held", "delayed", "again")),
        **dict.fromkeys(("parked", "paused", "dead", "workers", "pins")),
    }
    if facts is None:
        return seen
    counts = ("waiting", "held", "delayed", "again", "parked", "paused", "dead")
    return seen | {
        "backlog": facts.backlog,
        "backlog_bytes": facts.backlog_bytes,
        "oldest_age": oldest_age(overview, facts),
        **{count: getattr(facts, count) for count in counts},
        "workers": facts.workers(lease),
        "pins": facts.pins(lease),
    }


@asynccontextmanager
async def _writing(settings: Settings) -> AsyncIterator[Client]:
    """Open the stream, which may not be there yet. Raises `SettingsError` if it has another number
    of partitions.
    """
    async with Client(
        settings.need_redis_url(), settings.prefix, partitions=settings.partitions
    ) as client:
        await need_all(client)
        try:
            await client.agree_on_partitions()
        except PartitionsError as error:
            raise SettingsError([str(error)]) from None
        yield client
