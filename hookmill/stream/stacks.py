"""Where a worker's threads and tasks are: an operator asks, the worker's lease thread answers.

The lease thread sees the request in the reply of its renewal, so that no worker asks for it by
itself, and one with a blocked event loop answers, too (`BlockingLeases`).
"""

from __future__ import annotations

import secrets
from typing import NamedTuple

from hookmill.stream.client import Client
from hookmill.stream.script_runner import Call, ScriptRunner
from hookmill.stream.view import first_seen

KEPT_FOR = 600.0
"""Seconds for which a request counts, and its answer is kept."""

_MOST = 32
"""How many requests and answers of a group there are at most: each answer takes some 64 KiB."""


class SaidStacks(NamedTuple):
    """What a worker has said, and when (Unix milliseconds by Redis' clock)."""

    at_ms: int
    text: str


class StackRequests:
    """The requests for stacks of a group's workers, and the answers. Methods raise
    `StreamUnavailableError`.
    """

    def __init__(self, client: Client, group: str) -> None:
        self._client = client
        self._place = first_seen(client)  # in a cluster a worker answers in each of its lanes
        self._key = client.partitions[self._place].of_group(group).stacks
        self._scripts = ScriptRunner(client, drains=False)

    async def ask(self, worker: str) -> None:
        """Ask a worker. What it said earlier goes."""
        args = [worker, secrets.token_hex(8), int(KEPT_FOR * 1000), _MOST]
        await self._scripts.run("stacks_ask", Call(self._place, [self._key], args))

    async def read(self, worker: str) -> tuple[bool, SaidStacks | None]:
        """Return whether the worker is asked and has not answered yet, and what it has said."""
        names = (f"ask {worker}", f"said {worker}")
        asked, said = await self._client.execute(self._place, "HMGET", self._key, *names)
        return asked is not None, None if said is None else _said(said)


def _said(raw: bytes) -> SaidStacks:
    at, _, text = raw.decode("utf-8", "replace").partition(" ")
    return SaidStacks(int(at) if at.isascii() and at.isdigit() else 0, text)
