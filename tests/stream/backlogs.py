"""How much of a group is unfinished, found by reading all of it, and what nobody notes."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import redis

from hookmill.stream.consumer import Consumer
from hookmill.stream.entries import Entry, FollowUp, Settlement, weight_of
from hookmill.stream.facts import Backlog
from hookmill.stream.keys import GroupKeys


def settled(entry: Entry, *follow_ups: FollowUp) -> Settlement:
    return Settlement(entry.ref, follow_ups, entry.key, entry.owner, entry.weight)


async def settle(group: Consumer, *entries: Entry) -> None:
    assert await group.settle([settled(entry) for entry in entries]) == []


def walked(client: redis.Redis, keys: GroupKeys, name: str = "main") -> Backlog:
    """Read all that a group has not finished in a partition. What was there before the group, and
    is not taken yet, is left out.
    """
    weights = [weight_of(fields) for fields in _entries(client, keys, name)]
    return Backlog(len(weights), sum(weights))


def _entries(client: redis.Redis, keys: GroupKeys, name: str) -> list[dict[bytes, bytes]]:
    untyped: Any = client
    groups = {row["name"]: row for row in untyped.xinfo_groups(keys.stream)}
    delivered = groups[name.encode()]["last-delivered-id"]
    entries: list[dict[bytes, bytes]] = []
    for row in untyped.xpending_range(keys.stream, name, "-", "+", 10_000):
        found = untyped.xrange(keys.stream, row["message_id"], row["message_id"])
        entries.append(found[0][1] if found else {})  # deleted, and pending all the same
    before = untyped.hget(keys.counts, "before") or b"0-0"
    first = max(delivered, before, key=_order_of)
    entries += [fields for _, fields in untyped.xrange(keys.stream, b"(" + first, "+")]
    entries += [fields for _, fields in untyped.xrange(keys.again)]
    entries += [_named(packed) for packed in untyped.hvals(keys.delayed_entries)]
    for key in untyped.scan_iter(f"{keys.parked}:*"):
        for packed in untyped.lrange(key, 0, -1):
            entries.append(_named(packed, inside=True))
    return entries


def _order_of(entry_id: bytes) -> tuple[int, ...]:
    return tuple(map(int, entry_id.split(b"-")))


def _named(packed: bytes, *, inside: bool = False) -> dict[bytes, bytes]:
    words = _unpacked(BytesIO(packed))
    if inside:
        words = words[1]
    return dict(zip(words[::2], words[1::2], strict=True))


def _unpacked(file: BytesIO) -> Any:
    """Read strings and lists of MessagePack. Redis packs all strings as text, not only texts."""
    (kind,) = file.read(1)
    if 0xA0 <= kind <= 0xBF:
        return file.read(kind - 0xA0)
    if 0x90 <= kind <= 0x9F:
        return [_unpacked(file) for _ in range(kind - 0x90)]
    size = int.from_bytes(file.read({0xD9: 1, 0xDA: 2, 0xDB: 4, 0xDC: 2, 0xDD: 4}[kind]))
    return file.read(size) if kind <= 0xDB else [_unpacked(file) for _ in range(size)]
