"""For how long a group has seen event types that no handler matches.

What is noted of a type counts for all its messages: each of them waits for the rest of the grace
period only.
"""

from __future__ import annotations

from collections.abc import Iterable

from hookmill.stream.client import Client, checked
from hookmill.stream.heartbeats import PLACE
from hookmill.stream.script_runner import Call, ScriptRunner

MOST_GROWTH = 60.0
"""By how many seconds a type's time grows at most from one look to the next. Workers look at each
waiting message every 15 seconds, or more often.
"""

KEPT_FOR = 86_400.0
"""Seconds after which a type is forgotten that nobody has looked at."""

MOST_TYPES = 1000
"""How many types are kept. With more, those that nobody has looked at for longest are forgotten."""

_MAX_NAME = 200
"""Characters by which types are told apart; a type can be as long as a body."""


class FirstSights:
    """The unmatched event types of a group. Methods raise `StreamUnavailableError`."""

    def __init__(self, client: Client, group: str) -> None:
        self._client = client
        self._key = client.partitions[PLACE].of_group(group).first_sights
        self._scripts = ScriptRunner(client, drains=True)

    async def look(self, event_type: str, *, is_known: bool = False) -> float:
        """Note that this type was seen now. Return for how many seconds it has been unknown.

        With `is_known`, a worker of the group has a handler for it: the time starts again.
        """
        args = [_name(event_type), *_ms(MOST_GROWTH, KEPT_FOR), MOST_TYPES, int(is_known)]
        unknown = await self._scripts.run("first_sight", Call(PLACE, [self._key], args))
        return int(unknown) / 1000

    async def types(self) -> list[str]:
        """Return the types that were seen."""
        names = await self._client.execute(PLACE, "HKEYS", self._key)
        return [name.decode("utf-8", "surrogatepass") for name in names]

    async def forget(self, types: Iterable[str]) -> None:
        """Forget these types: where one is seen again, its time starts again."""
        if names := [_name(event_type) for event_type in types]:
            for reply in await self._client.ask(PLACE, ("HDEL", self._key, *names)):
                checked(reply)


def _name(event_type: str) -> bytes:
    return event_type[:_MAX_NAME].encode("utf-8", "surrogatepass")


def _ms(*seconds: float) -> list[int]:
    return [int(each * 1000) for each in seconds]
