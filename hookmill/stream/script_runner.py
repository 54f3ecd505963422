"""Runs the Lua scripts under `scripts/`, and loads those that the server does not know."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cache
from importlib import resources
from typing import Any, NamedTuple

from hookmill.stream.client import Client, checked
from hookmill.stream.connections import Command
from hookmill.stream.reply_errors import ScriptMissingError
from hookmill.stream.topology import Place


class Call(NamedTuple):
    """A script's keys and arguments. All its keys lie in one place."""

    place: Place
    keys: Sequence[str]
    args: Sequence[Any] = ()


_ALLOW_OOM = "#!lua flags=allow-oom\n"

_WRITE_FIRST = "redis.call('DEL', KEYS[1] .. ':none')\n"
"""Redis before 7.0 lets a script go on whose first write takes no memory; this one does nothing."""


_FENCE = "table.remove(KEYS)\n"
"""Takes away the last key, which never exists. In a cluster each script names it: while a slot
moves from node to node key by key, both nodes refuse a command one of whose keys is missing. So no
script runs there that would find only some of the keys, and take the rest for missing.
"""


class ScriptRunner:
    """Runs scripts for one client. With `drains` they may write while Redis is full, because they
    are what empties it.
    """

    def __init__(self, client: Client, *, drains: bool) -> None:
        self._client = client
        self._drains = drains
        self._head: str | None
        self._texts: dict[str, tuple[str, str]] = {}
        self._loaded: set[str] = set()
        """The scripts that `loaded` has loaded."""
        self.forget()

    async def run(self, name: str, call: Call) -> Any:
        """Run a script and return its reply."""
        (reply,) = await self.run_each(name, [call])
        return reply

    async def run_each(
        self, name: str, calls: Sequence[Call], *, allowance: float = 0.0
    ) -> list[Any]:
        """Run a script several times in one round trip, and return a reply each. `allowance` is
        for how many seconds more than usual that may last.

        Raise the first error after all calls have run: each partition succeeds or fails for
        itself.
        """
        replies = await self.try_each(name, calls, allowance=allowance) if calls else []
        return [checked(reply) for reply in replies]

    async def try_each(
        self, name: str, calls: Sequence[Call], *behind: Command, allowance: float = 0.0
    ) -> list[Any]:
        """Do the same, but return an error as the reply of its call. The replies of the commands
        `behind` the calls come last.
        """
        sha, text = await self._text(name)
        if self._client.is_cluster:
            calls = [call._replace(keys=self.fenced(call.place, call.keys)) for call in calls]
        runs = [(place, ("EVALSHA", sha, len(keys), *keys, *args)) for place, keys, args in calls]
        replies = await self._client.ask_places(runs, *behind, allowance=allowance)
        # The server may have forgotten a script, and then did nothing.
        missed = [
            number for number, reply in enumerate(replies) if isinstance(reply, ScriptMissingError)
        ]
        if missed:
            # Load it and run it on one connection: another may lead to another server meanwhile.
            places = {self._client.server_of(runs[number][0]): runs[number][0] for number in missed}
            loads = [(place, ("SCRIPT", "LOAD", text)) for place in places.values()]
            both = await self._client.ask_places(
                [*loads, *(runs[number] for number in missed)], *behind, allowance=allowance
            )
            loaded, again = both[: len(loads)], both[len(loads) :]
            for reply in loaded:
                if isinstance(reply, Exception):
                    self.forget()
                    checked(reply)  # it raises
            replies[len(runs) :] = again[len(missed) :]
            for number, reply in zip(missed, again, strict=False):
                replies[number] = reply
        return replies

    def fenced(self, place: Place, keys: Sequence[str]) -> Sequence[str]:
        """Return the keys of a script as they are to be sent."""
        if not self._client.is_cluster:
            return keys
        if isinstance(place, int):
            return [*keys, self._client.partitions[place].none]
        return [*keys, f"{{{place}}}:none"]

    async def loaded(self, name: str) -> str:
        """Load a script, unless that was done since the last `forget`; return its SHA-1. It is for
        a script inside of a transaction, which cannot load it.
        """
        sha, text = await self._text(name)
        if name not in self._loaded:
            for reply in await self._client.ask_servers(("SCRIPT", "LOAD", text)):
                checked(reply)
            self._loaded.add(name)
        return sha

    async def _text(self, name: str) -> tuple[str, str]:
        """Return a script's SHA-1 and its text."""
        if self._head is None:
            knows_flags = not await self._faults_of(f"{_ALLOW_OOM}return 1")
            self._head = _ALLOW_OOM if knows_flags else _WRITE_FIRST
        if name not in self._texts:
            text = self._head + (_FENCE if self._client.is_cluster else "") + script_text(name)
            sha = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
            self._texts[name] = sha, text
        return self._texts[name]

    def forget(self) -> None:
        """Find out again what the server knows: after a switch it can be of another version."""
        self._head = None if self._drains else ""
        self._texts.clear()
        self._loaded.clear()

    async def _faults_of(self, text: str) -> list[Exception]:
        """Load a script, and return what the servers say against it."""
        replies = await self._client.ask_servers(("SCRIPT", "LOAD", text))
        return [reply for reply in replies if isinstance(reply, Exception)]


@cache
def script_text(name: str) -> str:
    """Read a script, with the parts that its `--#include` lines name put in their place."""
    folder = resources.files("hookmill.stream") / "scripts"
    lines = (folder / f"{name}.lua").read_text("utf-8").splitlines()
    return "\n".join(
        script_text(line.removeprefix("--#include ")) if line.startswith("--#include ") else line
        for line in lines
    )
