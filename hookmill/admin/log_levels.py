"""`hookmill log-level` without its printing: sets the level of running programs for a while."""

from __future__ import annotations

from typing import NamedTuple

from hookmill.admin.audit import Operator, acting
from hookmill.admin.opening import open_stream
from hookmill.config.settings import Settings
from hookmill.stream.client import Client
from hookmill.stream.groups import Groups
from hookmill.stream.heartbeats import Heartbeats
from hookmill.stream.log_levels import EVERY_PROGRAM, LogLevels, SetLevel

LONGEST = 7 * 24 * 3600.0
"""Seconds for which a level may be set. For good, `HOOKMILL_LOG_LEVEL` is the place."""


class Reached(NamedTuple):
    """What is set now, and the workers that it concerns. Receivers write no heartbeat, so nobody
    knows which there are.
    """

    levels: tuple[SetLevel, ...]
    workers: tuple[str, ...]


async def set_level(
    settings: Settings, level: str | None, program: str, seconds: float, operator: Operator
) -> Reached:
    """Set the level of the programs of a name, or of all (`EVERY_PROGRAM`); None takes it back."""
    async with await open_stream(settings) as client:
        levels = LogLevels(client)
        details = {"level": level, "program": program, "seconds": seconds if level else None}
        async with acting(settings, "log-level", details, operator, client=client):
            if level is None:
                await levels.take_back(program)
            else:
                await levels.set(program, level, seconds)
        return Reached(await levels.read(), await _workers(client, program))


async def _workers(client: Client, program: str) -> tuple[str, ...]:
    known = (await Groups(client).known()).values()
    found = [
        one for group in known if group.is_there
        for one in await Heartbeats(client, group.name).read()
    ]  # fmt: skip
    return tuple(
        one.name
        for one in found
        if program in {EVERY_PROGRAM, "worker", one.name, one.host, one.program}
    )
