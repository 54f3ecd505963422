"""Reads the state of a consumer group with plain Redis commands, without our own code."""

from __future__ import annotations

import itertools
from typing import Any

import redis

from tests.peers.work import Work
from tests.support import eventually, message

_numbers = itertools.count()


class View:
    """The keys of one group in a stream with one partition."""

    def __init__(self, client: redis.Redis, prefix: str, group: str = "main") -> None:
        self.client: Any = client
        self.group = group
        self.stream = f"{prefix}:{{0}}:stream"
        self.again = f"{prefix}:{{0}}:{group}:again"
        self.wake = f"{prefix}:{{0}}:{group}:wake"
        self.dead = f"{prefix}:{{0}}:{group}:dead"
        self.delayed = f"{prefix}:{{0}}:{group}:delayed"

    def pending(self, consumer: str = "") -> int:
        """Return how many messages the group holds, or one of its consumers."""
        count = 0
        for key in (self.stream, self.again):
            try:
                summary = self.client.xpending(key, self.group)
            except redis.ResponseError:  # no worker has made it yet
                continue
            held = {row["name"].decode(): row["pending"] for row in summary["consumers"]}
            count += held.get(consumer, 0) if consumer else summary["pending"]
        return count

    def consumers(self) -> set[str]:
        return {
            row["name"].decode()
            for key in (self.stream, self.again)
            for row in self.client.xinfo_consumers(key, self.group)
        }

    def is_drained(self) -> bool:
        """Whether nothing is unread, held, to be taken again, or delayed."""
        if not self.client.exists(self.stream):
            return False
        groups = {row["name"].decode(): row for row in self.client.xinfo_groups(self.stream)}
        return self.group in groups and not (
            self.client.xread({self.stream: groups[self.group]["last-delivered-id"]}, count=1)
            or self.pending()
            or self.client.xlen(self.again)
            or self.client.zcard(self.delayed)
        )

    async def drained(self) -> None:
        await eventually(self.is_drained, timeout=30, what="a drained group")

    def dead_letters(self) -> list[dict[bytes, bytes]]:
        return [fields for _, fields in self.client.xrange(self.dead)]

    def stored(self) -> list[str]:
        """Return the message IDs in the shared stream."""
        return [fields[b"id"].decode() for _, fields in self.client.xrange(self.stream)]

    def add(self, message_id: str) -> None:
        """Append a message with a plain client, and wake a worker."""
        self.client.xadd(self.stream, message(id=message_id).to_fields())
        self.client.zadd(self.wake, {self.again: 0})

    def leave_behind(self, *message_ids: str) -> list[str]:
        """Add messages that a consumer takes at once and never settles; return their entry IDs.

        It is one step, or a waiting worker would take them. Nothing else may be unread.
        """
        with self.client.pipeline() as pipe:
            for message_id in message_ids:
                pipe.xadd(self.stream, message(id=message_id).to_fields())
            pipe.xreadgroup(self.group, f"dead-of-{message_ids[0]}", {self.stream: ">"})
            return [entry_id.decode() for entry_id in pipe.execute()[:-1]]

    async def watched_for_a_lease(self, work: Work) -> None:
        """Return when workers have watched all that was held before, for more than a lease.

        A dead consumer's entries are taken over by the workers that watch everything else, and only
        after a lease.
        """
        left = f"left-behind-{next(_numbers)}"
        self.leave_behind(left)
        await eventually(lambda: work.began[left], what=f"{left} to be taken over")

    def calls(self, command: str) -> int:
        """Return how often the server has run a command."""
        stats = self.client.info("commandstats")
        return int(stats.get(f"cmdstat_{command}", {}).get("calls", 0))

    async def looks(self, count: int) -> None:
        """Return after so many more looks at who holds what; there are eight in a lease."""
        key = self.dead.removesuffix("dead") + "looks"

        def number() -> int:
            return int(self.client.hget(key, "number") or 0)

        enough = number() + count
        await eventually(lambda: number() >= enough, timeout=30, what="looks")

    async def blocked(self, count: int = 1) -> None:
        """Return when so many workers wait for new entries. A worker waits for delayed messages,
        too, and may do so before it has made its group.
        """

        def waiting() -> int:
            rows = self.client.client_list()
            return sum("b" in row["flags"] and row["cmd"] == "bzpopmin" for row in rows)

        await eventually(lambda: waiting() >= count, what="workers that wait")

    async def held_up(self, count: int) -> None:
        """Return when so many scripts wait at a server whose writes are paused."""

        def waiting() -> bool:
            rows = [r for r in self.client.client_list() if r["cmd"].startswith("evalsha")]
            return sum("b" in row["flags"] for row in rows) >= count

        await eventually(waiting, what=f"{count} scripts to be held up")
