"""Runs the Lua scripts, and loads those that the server does not know."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cache
from importlib import resources
from typing import Any, NamedTuple

import redis

from hookmill.stream.client import Client, Command


class Call(NamedTuple):
    """A script's keys and arguments: those of one partition."""

    keys: Sequence[str]
    args: Sequence[Any] = ()


_ALLOW_OOM = "#!lua flags=allow-oom\n"


# Redis before 7.0 lets a script go on whose first write takes no memory; this one does nothing.
_WRITE_FIRST = "redis.call('DEL', KEYS[1] .. ':none')\n"


class Scripts:
    """The scripts as one client runs them. Where it `drains`, they go on while Redis is full: they
    are what empties it.
    """

    def __init__(self, client: Client, *, drains: bool) -> None:
        self._client = client
        self._head: str | None = None if drains else ""
        self._texts: dict[str, tuple[str, str]] = {}

    async def run(self, name: str, keys: Sequence[str], args: Sequence[Any] = ()) -> Any:
        """Run a script and return its reply."""
        (reply,) = await self.run_each(name, [Call(keys, args)])
        return reply

    async def run_each(self, name: str, calls: Sequence[Call]) -> list[Any]:
        """Run a script several times in one round trip, and return a reply each.

        Raises the first error when all have run: each is a partition's own affair.
        """
        replies = await self.try_each(name, calls)
        for reply in replies:
            if isinstance(reply, Exception):
                raise reply
        return replies

    async def try_each(self, name: str, calls: Sequence[Call], *then: Command) -> list[Any]:
        """Do so with commands behind it, whose replies come last; an error is its reply."""
        sha, text = await self._text(name)
        runs = [("EVALSHA", sha, len(call.keys), *call.keys, *call.args) for call in calls]
        replies = await self._client.ask(*runs, *then)
        # The server may have forgotten a script, and then did nothing.
        missed = [
            number
            for number, reply in enumerate(replies)
            if isinstance(reply, redis.exceptions.NoScriptError)
        ]
        if missed:
            await self._client.script_load(text)
            anew = await self._client.ask(*(runs[number] for number in missed), *then)
            replies[len(runs) :] = anew[len(missed) :]
            for number, reply in zip(missed, anew, strict=False):
                replies[number] = reply
        return replies

    async def _text(self, name: str) -> tuple[str, str]:
        if self._head is None:
            try:
                await self._client.script_load(f"{_ALLOW_OOM}return 1")
            except redis.ResponseError:
                self._head = _WRITE_FIRST
            else:
                self._head = _ALLOW_OOM
        if name not in self._texts:
            text = self._head + script_text(name)
            sha = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
            self._texts[name] = sha, text
        return self._texts[name]


@cache
def script_text(name: str) -> str:
    """Read a script, with the parts that its `--#include` lines name put in their place."""
    folder = resources.files("hookmill.stream") / "scripts"
    lines = (folder / f"{name}.lua").read_text("utf-8").splitlines()
    return "\n".join(
        script_text(line.removeprefix("--#include ")) if line.startswith("--#include ") else line
        for line in lines
    )
