"""The records of what operators did: written, and read from the newest on.

They lie in one stream of partition 0, which is bounded. What a record says is the caller's.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping

from hookmill.message import Fields
from hookmill.stream.client import Client
from hookmill.stream.heartbeats import PLACE
from hookmill.stream.script_runner import Call, ScriptRunner

MOST_RECORDS = 20_000
"""How many records are kept at least: mostly two for each action, one at its begin and its end."""

_PAGE, _PAGE_BYTES = 200, 512 * 1024
"""How many records are read in one step, and after how many bytes it ends: other commands wait
meanwhile.
"""


class AuditRecords:
    """The records. Methods raise `StreamUnavailableError`."""

    def __init__(self, client: Client) -> None:
        self._key = client.partitions[PLACE].audit
        # It drains: what is done to a full Redis must be recorded too.
        self._scripts = ScriptRunner(client, drains=True)
        self._reading = ScriptRunner(client, drains=False)

    async def write(self, fields: Mapping[str, str]) -> str:
        """Write a record; return its ID, which has the time by Redis' clock."""
        words = [word.encode("utf-8", "replace") for pair in fields.items() for word in pair]
        call = Call(PLACE, [self._key], [MOST_RECORDS, *words])
        record_id: bytes = await self._scripts.run("audit", call)
        return record_id.decode()

    async def newest(self, since_ms: int = 0) -> AsyncIterator[tuple[str, Fields]]:
        """Yield ID and fields of each record since then (Unix milliseconds), the newest first."""
        last, has_ended = "+", False
        while not has_ended:
            call = Call(PLACE, [self._key], [f"{since_ms}-0", last, _PAGE, _PAGE_BYTES])
            page, has_ended = await self._reading.run("survey_newest", call)
            for record_id, flat in page:
                yield record_id.decode(), dict(zip(flat[::2], flat[1::2], strict=True))
                last = f"({record_id.decode()}"
