"""Renews a consumer's leases from a thread of its own."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from hookmill.stream.client import translated
from hookmill.stream.entries import EntryRef
from hookmill.stream.keys import GroupKeys
from hookmill.stream.script_runner import script_text


class BlockingLeases:
    """Renews leases over a connection of its own, from a thread that a busy loop cannot stop."""

    def __init__(
        self, url: str, partitions: Sequence[GroupKeys], group: str, consumer: str
    ) -> None:
        # Short, for a worker that stops waits for the renewal under way.
        self._redis = redis.Redis.from_url(
            url, socket_timeout=2, socket_connect_timeout=2, retry=Retry(NoBackoff(), 0)
        )
        self._partitions = partitions
        self._names = [group, consumer]

    def renew(self, refs: Iterable[EntryRef]) -> list[EntryRef]:
        """Renew these entries' leases; return those that are no longer ours."""
        by_partition: defaultdict[int, list[EntryRef]] = defaultdict(list)
        for ref in refs:
            by_partition[ref.partition].append(ref)
        text = script_text("renew")
        with translated(), self._redis.pipeline(transaction=False) as pipe:
            for number, some in by_partition.items():
                keys = self._partitions[number]
                args = [word for ref in some for word in (ref.key_number, ref.id)]
                pipe.eval(text, 2, keys.stream, keys.again, *self._names, *args)
            replies = pipe.execute()
        return [
            some[place - 1]
            for some, lost in zip(by_partition.values(), replies, strict=True)
            for place in lost
        ]

    def close(self) -> None:
        """Close the connection."""
        self._redis.close()
