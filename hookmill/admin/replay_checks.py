"""Whether a replay of handled messages may begin: which handlers and workers there are."""

from __future__ import annotations

from hookmill.config.settings import DEFAULT_GROUP, Settings
from hookmill.errors import HookmillError
from hookmill.stream.client import Client
from hookmill.stream.facts import SILENCE, GroupFacts
from hookmill.stream.groups import Groups
from hookmill.stream.inspector import Inspector
from hookmill.stream.recent import EntryPlace
from hookmill.stream.unfinished import OneMessage

CAN_REPLAY = "replay"
"""What the heartbeat of a worker that notes moves (`moves.lua`) says that it can."""


class ReplayRefusedError(HookmillError):
    """A replay may not begin or go on. The text says what to do."""

    code = "replay_refused"


def known_handler(facts: GroupFacts, handler: str) -> tuple[str, tuple[str, ...]]:
    """Return the name of a handler, which may be given by an older one, and its event types and
    patterns, as the running workers say. Raises `ReplayRefusedError` if none of them has it.
    """
    names = [one.aliases.get(handler, handler) for one in facts.heartbeats]
    name = next((one for one in names if one != handler), handler)
    found = [one.handlers[name] for one in facts.heartbeats if name in one.handlers]
    if found:
        return name, tuple(dict.fromkeys(pattern for patterns in found for pattern in patterns))
    known = sorted({name for one in facts.heartbeats for name in one.handlers})
    said = f"there are {', '.join(known)}" if known else "no worker of the group runs"
    raise ReplayRefusedError(f"no running worker has a handler {handler!r}: {said}")


async def group_facts(client: Client, settings: Settings) -> GroupFacts:
    """Return what is known of the group. Raises `ReplayRefusedError` where an older worker runs."""
    if settings.group != DEFAULT_GROUP:
        await Groups(client).find(settings.group)
    facts = await Inspector(client).group(settings.group)
    silent = max(SILENCE, settings.lease) * 1000
    older = [one.name for one in facts.heartbeats if CAN_REPLAY not in one.can]
    older += [
        one.name
        for one in facts.without_heartbeat
        if one.lease_number is None and one.idle_ms < silent
    ]
    if older:
        raise ReplayRefusedError(
            f"workers of an older release run: {', '.join(older)}. They do not say where messages "
            "go, so that an unfinished one could run twice: update them first"
        )
    return facts


async def made_ms(client: Client, group: str) -> int:
    """Return when the group was made if it began there: what came before is not its own."""
    known = (await Groups(client).known()).get(group)
    return known.since_ms if known is not None and known.origin == "now" else 0


def bounds_of_one(entry: str, first: str, partitions: int) -> tuple[OneMessage, tuple[str, ...]]:
    """Return the message of this entry, whose ID is the first that is replayed, and the last one of
    each partition. `first` is the first ID that belongs to the group. Raises `ReplayRefusedError`.
    """
    try:
        place = EntryPlace.of(entry)
    except ValueError:
        raise ReplayRefusedError(f"{entry!r} is not the ID of an entry") from None
    if place.ms < int(first.partition("-")[0]):
        raise ReplayRefusedError(f"{entry} came before the group was made: it is not the group's")
    entry_id = f"{place.ms}-{place.sequence}"
    last = tuple(entry_id if n == place.partition else "0-0" for n in range(partitions))
    return OneMessage(place.partition, entry_id), last
