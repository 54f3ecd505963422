"""A consumer group as one worker sees it: take, wait, settle, lease, and its upkeep."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from hookmill.entries import Entry, EntryRef, GroupKeys, Repeat, Settlement, Taken
from hookmill.errors import StreamUnavailableError
from hookmill.stream.connection import connect, draining_scripts, script_text, translated
from hookmill.stream.stream import Stream

_SCRIPTS = ("open", "take", "takeover", "settle", "alone", "release", "retire")


class Group:
    """One consumer's view of a consumer group: take, wait, settle, and the group's upkeep.

    `dedup_window` is for how many seconds at least a message ID is remembered.
    """

    def __init__(self, stream: Stream, name: str, consumer: str, *, dedup_window: int) -> None:
        self.name = name
        self.consumer = consumer
        self.keys = stream.keys.of_group(name)
        self._dedup_window = dedup_window
        self._timeout = stream.timeout
        self._url = stream.url
        self._redis = stream.redis
        # A blocking read needs a connection of its own, with a patience longer than the block.
        self._waiting = connect(stream.url, timeout=None)
        self._waiting_id: int | None = None
        self._bell = f"{name}:bell"
        self._scripts: dict[str, Any] = {}

    async def open(self) -> int:
        """Make the group where it is missing; return how many of its two halves were made."""
        keys = [self.keys.stream, self.keys.again, self.keys.low_water]
        return int(await self._run("open", keys, [self.name, self._bell]))

    async def take(self, count: int) -> Taken:
        """Take up to `count` entries; repeats of an ID that another entry owns are acknowledged."""
        args = [self.name, self.consumer, count, self._dedup_window, self._bell]
        return _taken(await self._run("take", self._taking_keys, args))

    async def wait(self, seconds: float) -> bool:
        """Wait until there may be something to take; return whether there may.

        Each entry that comes ends the waiting of one worker. It takes nothing: who has heard the
        bell should take at once.
        """
        with translated():
            async with asyncio.timeout(seconds + self._timeout):
                self._waiting_id = await self._waiting.client_id()
                rung = await self._waiting.xreadgroup(
                    self._bell,
                    "bell",
                    {self.keys.again: ">", self.keys.stream: ">"},
                    count=1,
                    block=max(1, int(seconds * 1000)),  # 0 would be for ever
                    noack=True,
                )
        return bool(rung)

    async def stop_waiting(self) -> None:
        """End a `wait` in progress."""
        if self._waiting_id is not None:
            with suppress(StreamUnavailableError), translated():
                await self._redis.client_unblock(self._waiting_id)

    async def take_over(
        self, key_number: int, cursor: str, count: int, lease: float
    ) -> tuple[Taken, str]:
        """Take over up to `count` entries whose consumer was silent for `lease` seconds.

        Returns them and the cursor for the next call, "0-0" when the sweep is over.
        """
        args = [self.name, self.consumer, count, self._dedup_window, key_number, int(lease * 1000)]
        reply = await self._run("takeover", self._taking_keys, [*args, cursor])
        return _taken(reply), reply[2].decode()

    async def settle(self, settlements: Iterable[Settlement]) -> list[str]:
        """Write down what became of entries; return the IDs of those that were no longer ours."""
        done: list[str | int] = []
        rest: list[str | bytes | int] = []
        for ref, follow_ups in settlements:
            if not follow_ups:
                done += ref
                continue
            rest += (*ref, len(follow_ups))
            for kind, token, fields, delay_ms in follow_ups:
                rest += (kind, delay_ms, token, 2 * len(fields))
                for pair in fields.items():
                    rest += pair
        args = [self.name, self.consumer, len(done) // 2, *done, *rest]
        keys = self.keys
        reply = await self._run(
            "settle",
            [
                *(keys.stream, keys.again, keys.delayed, keys.delayed_entries),
                *(keys.dead, keys.suspects),
            ],
            args,
        )
        return [entry_id.decode() for entry_id in reply[1]]

    async def run_alone(self, ref: EntryRef) -> int:
        """Note that a suspect is about to run alone; return for which time it does."""
        return int(await self._run("alone", [self.keys.suspects], list(ref)))

    async def release(self, count: int) -> tuple[int, float | None]:
        """Let delayed messages that are due be taken; return how many, and the seconds until
        the next one is due (None: none waits).
        """
        keys = [self.keys.again, self.keys.delayed, self.keys.delayed_entries]
        moved, wait_ms = await self._run("release", keys, [count])
        return moved, None if wait_ms < 0 else wait_ms / 1000

    async def retire(self, idle: float, consumer: str = "") -> int:
        """Remove consumers that hold nothing and were idle for that many seconds."""
        keys = [self.keys.stream, self.keys.again]
        return int(await self._run("retire", keys, [self.name, int(idle * 1000), consumer]))

    async def redis_uptime(self) -> float:
        """Return for how many seconds Redis itself has been up."""
        with translated():
            return float((await self._redis.info("server"))["uptime_in_seconds"])

    def leases(self) -> BlockingLeases:
        """Open a view of this consumer's leases for a thread of its own."""
        return BlockingLeases(self._url, self.keys, self.name, self.consumer)

    async def close(self) -> None:
        """Close the waiting connection; the stream's own stay."""
        await self._waiting.aclose()

    @property
    def _taking_keys(self) -> list[str]:
        return [self.keys.stream, self.keys.again, self.keys.owners]

    async def _run(self, name: str, keys: list[str], args: Sequence[Any]) -> Any:
        with translated():
            if not self._scripts:
                self._scripts = await draining_scripts(self._redis, _SCRIPTS)
            return await self._scripts[name](keys=keys, args=args)


class BlockingLeases:
    """Renews leases over a connection of its own, from a thread that a busy loop cannot stop."""

    def __init__(self, url: str, keys: GroupKeys, group: str, consumer: str) -> None:
        self._redis = redis.Redis.from_url(
            url, socket_timeout=5, socket_connect_timeout=5, retry=Retry(NoBackoff(), 0)
        )
        self._renew: Any = self._redis.register_script(script_text("renew"))
        self._keys = [keys.stream, keys.again]
        self._names = [group, consumer]

    def renew(self, refs: Iterable[EntryRef]) -> list[str]:
        """Renew these entries' leases; return the IDs of those that are no longer ours."""
        args = [word for ref in refs for word in ref]
        with translated():
            lost = self._renew(keys=self._keys, args=[*self._names, *args])
        return [entry_id.decode() for entry_id in lost]

    def close(self) -> None:
        """Close the connection."""
        self._redis.close()


def _taken(reply: Any) -> Taken:
    entries = [
        Entry(
            EntryRef(key_number, entry_id.decode()),
            dict(zip(flat[::2], flat[1::2], strict=True)),
            is_suspect=suspected == [1],
        )
        for key_number, entry_id, flat, *suspected in reply[0]
    ]
    return Taken(entries, _repeats(reply[1]))


def _repeats(reply: Any) -> list[Repeat]:
    return [
        Repeat(EntryRef(key_number, entry_id.decode()), message_id.decode("utf-8", "replace"))
        for key_number, entry_id, message_id in reply
    ]
