"""Which workers of a group are of an older release, as far as Redis tells it to a program."""

from __future__ import annotations

from typing import Any

from hookmill.stream.client import Client, checked
from hookmill.stream.facts import SILENCE, ConsumerFacts, Heartbeat, heedless_among
from hookmill.stream.heartbeats import PLACE, Heartbeats


class OlderWorkers:
    """The workers of a group. `lease` (seconds) decides for how long one counts that no longer
    takes anything. Methods raise `StreamUnavailableError`.
    """

    def __init__(self, client: Client, group: str, lease: float) -> None:
        self._client = client
        self._group = group
        self._lease = lease

    async def heedless(self) -> list[str]:
        """Return the names of the workers that heed no pause."""
        found = await Heartbeats(self._client, self._group).read()
        return heedless_among(found, await self._without_heartbeat(found), self._lease)

    async def unknown(self, found: tuple[Heartbeat, ...]) -> set[str]:
        """Return the consumers without one of these heartbeats that may be workers.

        One without a lease number is of release 0.1. Redis 7.0 does not tell how long it was silent
        while it takes nothing, so it counts until it is removed. One with a lease number was killed
        or has a blocked event loop.
        """
        silent_ms = max(SILENCE, self._lease) * 1000
        return {
            one.name
            for one in await self._without_heartbeat(found)
            if one.lease_number is None or one.idle_ms < silent_ms
        }

    async def _without_heartbeat(self, found: tuple[Heartbeat, ...]) -> list[ConsumerFacts]:
        lease_numbers = self._client.partitions[PLACE].of_group(self._group).lease_numbers
        asked: list[tuple[int, tuple[str, ...]]] = [(PLACE, ("HGETALL", lease_numbers))]
        for number, keys in enumerate(self._client.partitions):
            asked.append((number, ("XINFO", "CONSUMERS", keys.stream, self._group)))
        flat, *infos = map(checked, await self._client.ask_places(asked))
        numbers, alive = _words(flat), {one.name for one in found}
        merged: dict[str, ConsumerFacts] = {}
        for row in (_words(row) for info in infos for row in info):
            name = row[b"name"].decode("utf-8", "replace")
            lease_number, seen = numbers.get(row[b"name"]), merged.get(name)
            merged[name] = ConsumerFacts(
                name=name,
                pending=row[b"pending"] + (seen.pending if seen else 0),
                idle_ms=min(row[b"idle"], seen.idle_ms) if seen else row[b"idle"],
                lease_number=None if lease_number is None else int(lease_number),
            )
        return [one for name, one in merged.items() if name not in alive]


def _words(row: list[Any]) -> dict[bytes, Any]:
    """Read a flat reply: names and values in turn."""
    return dict(zip(row[::2], row[1::2], strict=True))
