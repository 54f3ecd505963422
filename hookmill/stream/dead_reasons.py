"""How many dead letters there are now, by reason.

Scripts that add or remove one count it (scripts/reason_counts.lua); programs of an older release do
not. So they are compared with the stream now and then: it has as many dead letters, and none
behind the newest that was counted. A recount reads it in short steps, into a hash of its own. What
leaves after it was read leaves that hash, too. At the end it takes the place of the first.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence

from hookmill.printable import printable
from hookmill.stream.client import Client
from hookmill.stream.script_runner import Call, ScriptRunner

OWN_REASONS = (
    *("crashed", "failed", "given_up", "internal_error", "undecodable", "undeliverable"),
    *("unhandled", "unknown_handler", "unknown_wire_version"),
)
"""The reasons that handlers do not choose."""

OTHER = "other"
"""Stands for the reasons that are not counted singly: they are too many, or too long."""

UNKNOWN = "unknown"
"""Stands for the dead letters whose reasons are not counted yet."""

STEP_MESSAGES, STEP_BYTES = 150, 1024 * 1024
"""How much one step of a recount reads: other commands wait for so long."""

STEPS, SECONDS = 100, 20.0
"""Steps in one go, of all partitions, and after how many seconds it ends: where Redis is slow, the
janitor must not seem to stand still.
"""


def reasons_of(length: int, flat: Sequence[bytes]) -> dict[str, int]:
    """Return how many dead letters there are of each reason, the most first, from their number and
    the hash of reasons. What was not counted is `UNKNOWN`.

    Where more was counted than there is, nobody knows which reasons have left. Then a reason has
    only as many as it must have, and the others are unknown.
    """
    counts: Counter[str] = Counter()
    for field, number in zip(flat[::2], flat[1::2], strict=True):
        if field != b"newest":
            counts[_name_of(field)] += max(0, int(number))
    excess = max(0, counts.total() - length)
    found = Counter({name: number - excess for name, number in counts.items() if number > excess})
    found[UNKNOWN] += length - found.total()
    return dict(sorted((+found).items(), key=lambda one: (-one[1], one[0])))


def _name_of(field: bytes) -> str:
    """Return the reason that a field counts."""
    name = field.removeprefix(b"=").decode("utf-8", "replace")
    return name if field.startswith(b"=") and printable(name) == name else OTHER


class DeadReasons:
    """Keeps the counts of one group right."""

    def __init__(self, client: Client, group: str) -> None:
        self._keys = [keys.of_group(group).dead for keys in client.partitions]
        self._scripts = ScriptRunner(client, drains=True)

    async def mend(self) -> bool:
        """Count again where the counts are wrong, up to some amount: the next call goes on. Return
        whether there is more to count.
        """
        again, steps, until = list(range(len(self._keys))), STEPS, time.monotonic() + SECONDS
        while again and steps > 0:
            steps -= len(again)
            calls = [
                Call(number, [self._keys[number]], [STEP_MESSAGES, STEP_BYTES]) for number in again
            ]
            replies = await self._scripts.run_each("recount_dead", calls)
            again = [number for number, more in zip(again, replies, strict=True) if more]
            if time.monotonic() >= until:
                break
        return bool(again)
