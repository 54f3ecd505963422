"""The levels of the log that operators have set for a while, for all programs or for some by name.

Redis' clock says when they end, so that programs with a wrong clock agree.
"""

from __future__ import annotations

from typing import NamedTuple

from hookmill.stream.client import Client
from hookmill.stream.script_runner import Call, ScriptRunner

EVERY_PROGRAM = "*"

_PLACE = 0


class SetLevel(NamedTuple):
    """A level that is set: for which programs (a name, or `EVERY_PROGRAM`), and for how many more
    seconds.
    """

    program: str
    level: str
    seconds: float


class LogLevels:
    """The levels that are set. Methods raise `StreamUnavailableError`."""

    def __init__(self, client: Client) -> None:
        self._keys = [client.partitions[_PLACE].log_levels]
        self._scripts = ScriptRunner(client, drains=False)

    async def set(self, program: str, level: str, seconds: float) -> None:
        """Set the level of the programs of this name."""
        args = [program, level, max(1, int(seconds * 1000))]
        await self._scripts.run("log_level", Call(_PLACE, self._keys, args))

    async def take_back(self, program: str) -> None:
        """Let the programs of this name log as their settings say."""
        await self._scripts.run("log_level", Call(_PLACE, self._keys, [program, "", 0]))

    async def read(self) -> tuple[SetLevel, ...]:
        """Return what is set, by program."""
        rows = await self._scripts.run("log_levels", Call(_PLACE, self._keys))
        return tuple(
            SetLevel(
                program.decode("utf-8", "replace"), level.decode("utf-8", "replace"), ms / 1000
            )
            for program, level, ms in sorted(rows)
        )
