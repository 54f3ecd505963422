"""The only module that speaks Redis: the stream, its consumer groups, and the scripts.

Every step that decides something is one Lua script under `scripts/`; each states its keys,
arguments and reply. All keys of a partition share a hash tag, so that every script stays in one
cluster slot. Redis' errors leave here as `StreamUnavailableError` or `GroupLostError`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from importlib import resources
from typing import Any

import redis
import redis.asyncio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.retry import Retry

from hookmill.entries import (
    AGAIN,
    STREAM,
    DeadLetter,
    Entry,
    EntryRef,
    GroupKeys,
    Keys,
    Repeat,
    Settlement,
    Taken,
)
from hookmill.errors import GroupLostError, SettingsError, StreamUnavailableError
from hookmill.message import RESET_BY_REPLAY, Message


class Stream:
    """One partition's stream, as the receivers see it: append, and is it there.

    `timeout` is in seconds and bounds each command; no command is ever repeated by the client,
    for a repeated append would be a second message.
    """

    def __init__(self, url: str, prefix: str, *, timeout: float = 5.0) -> None:
        self.keys = Keys(prefix)
        self.url = url
        self.timeout = timeout
        self.redis = connect(url, timeout)
        self._append = _script(self.redis, "append")
        self._trim = _script(self.redis, "trim")

    async def append(self, messages: Sequence[Message]) -> list[str]:
        """Append all of the messages or none, in one round trip; return their entry IDs."""
        if not messages:
            return []
        rows = [message.to_fields() for message in messages]
        args: list[bytes | int] = [2 * len(rows[0])]
        for row in rows:
            for pair in row.items():
                args.extend(pair)
        with _translated():
            reply = await self._append(keys=[self.keys.stream], args=args)
        return [entry_id.decode() for entry_id in reply]

    async def probe(self) -> None:
        """Raise `StreamUnavailableError` unless Redis takes writes now.

        Asks for a write that changes nothing: no stream has the probe's key, and NOMKSTREAM
        forbids making it. A full, read-only or loading Redis refuses it as it would an append.
        """
        with _translated():
            await self.redis.xadd(self.keys.probe, {"probe": ""}, nomkstream=True)

    async def trim(self, retention: float) -> int:
        """Drop what all groups have finished and is older than `retention` seconds."""
        marks = self.keys.of_group("\0").low_water.split("\0")
        with _translated():
            args = [int(retention * 1000), *marks]
            return int(await self._trim(keys=[self.keys.stream], args=args))

    async def close(self) -> None:
        """Close the connections."""
        await self.redis.aclose()


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
        self._scripts = {
            name: _script(self._redis, name)
            for name in ("open", "take", "takeover", "settle", "release", "retire")
        }

    async def open(self) -> int:
        """Make the group where it is missing; return how many of its two halves were made."""
        keys = [self.keys.stream, self.keys.again, self.keys.low_water]
        return int(await self._run("open", keys, [self.name]))

    async def take(self, count: int, waited_for: Sequence[Entry] = ()) -> Taken:
        """Take up to `count` entries, and settle whose the IDs of `waited_for` are, which
        `wait` has brought. Repeats of an ID that another entry owns are acknowledged.
        """
        args: list[str | bytes | int] = [self.name, self.consumer, count, self._dedup_window]
        for entry in waited_for:
            args += entry.ref
            args += (entry.fields.get(name, b"") for name in (b"digest", b"owner", b"id"))
        reply = await self._run("take", self._taking_keys, args)
        taken = _taken(reply)
        gone = {repeat.ref for repeat in (*taken.repeats, *_repeats(reply[2]))}
        mine = [entry for entry in waited_for if entry.ref not in gone]
        return Taken(mine + taken.entries, taken.repeats)

    async def wait(self, seconds: float) -> list[Entry]:
        """Wait until an entry comes, and take it: one, or in a rare race one of each stream."""
        with _translated():
            async with asyncio.timeout(seconds + self._timeout):
                self._waiting_id = await self._waiting.client_id()
                reply: Any = await self._waiting.xreadgroup(
                    self.name,
                    self.consumer,
                    {self.keys.again: ">", self.keys.stream: ">"},
                    count=1,
                    block=max(1, int(seconds * 1000)),  # 0 would be for ever
                )
        key_numbers = {self.keys.stream.encode(): STREAM, self.keys.again.encode(): AGAIN}
        return [
            Entry(EntryRef(key_numbers[key], entry_id.decode()), fields)
            for key, entries in reply
            for entry_id, fields in entries
        ]

    async def stop_waiting(self) -> None:
        """End a `wait` in progress without losing what it may be about to bring."""
        if self._waiting_id is not None:
            with suppress(StreamUnavailableError), _translated():
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
            [keys.stream, keys.again, keys.delayed, keys.delayed_entries, keys.dead],
            args,
        )
        return [entry_id.decode() for entry_id in reply[1]]

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
        with _translated():
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

    async def _run(self, script: str, keys: list[str], args: Sequence[Any]) -> Any:
        with _translated():
            return await self._scripts[script](keys=keys, args=args)


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
        with _translated():
            lost = self._renew(keys=self._keys, args=[*self._names, *args])
        return [entry_id.decode() for entry_id in lost]

    def close(self) -> None:
        """Close the connection."""
        self._redis.close()


class DeadLetters:
    """A group's dead letters, oldest first."""

    def __init__(self, stream: Stream, group: str) -> None:
        self.keys = stream.keys.of_group(group)
        self._redis = stream.redis
        self._replay = _script(self._redis, "replay")

    async def count(self) -> int:
        """Return how many there are."""
        with _translated():
            return int(await self._redis.xlen(self.keys.dead))

    async def read(self, after: str = "-", count: int = 100) -> list[DeadLetter]:
        """Return up to `count` dead letters that follow the one with the ID `after`."""
        start = after if after == "-" else f"({after}"
        with _translated():
            rows: Any = await self._redis.xrange(self.keys.dead, start, "+", count=count)
        return [DeadLetter(entry_id.decode(), fields) for entry_id, fields in rows]

    async def get(self, dead_id: str) -> DeadLetter | None:
        """Return one dead letter, or None."""
        with _translated():
            rows: Any = await self._redis.xrange(self.keys.dead, dead_id, dead_id)
        return DeadLetter(rows[0][0].decode(), rows[0][1]) if rows else None

    async def replay(self, dead_ids: Sequence[str]) -> int:
        """Send dead letters back to be taken again; return how many were still there."""
        with _translated():
            return int(
                await self._replay(
                    keys=[self.keys.dead, self.keys.again],
                    args=[len(RESET_BY_REPLAY), *RESET_BY_REPLAY, *dead_ids],
                )
            )

    async def drop(self, dead_ids: Sequence[str]) -> int:
        """Delete dead letters for good; return how many were still there."""
        with _translated():
            return int(await self._redis.xdel(self.keys.dead, *dead_ids))


@cache
def script_text(name: str) -> str:
    """Read a script, with the parts that its `--#include` lines name put in their place."""
    folder = resources.files("hookmill") / "scripts"
    lines = (folder / f"{name}.lua").read_text("utf-8").splitlines()
    return "\n".join(
        script_text(line.removeprefix("--#include ")) if line.startswith("--#include ") else line
        for line in lines
    )


def connect(url: str, timeout: float | None) -> redis.asyncio.Redis:
    """Open a client that never repeats a command by itself. `timeout` is in seconds, None: none.

    RESP2 replies have one shape in every version of the client, and are the cheaper to parse.
    """
    try:
        return redis.asyncio.Redis.from_url(
            url,
            socket_timeout=timeout,
            socket_connect_timeout=timeout if timeout is not None else 5.0,
            retry=AsyncRetry(NoBackoff(), 0),
            protocol=2,
        )
    except ValueError:  # its text may show a part of the password
        raise SettingsError(["REDIS_URL: the Redis client cannot read it"]) from None


def _script(client: redis.asyncio.Redis, name: str) -> Any:  # redis-py's scripts are untyped
    return client.register_script(script_text(name))


def _taken(reply: Any) -> Taken:
    entries = [
        Entry(
            EntryRef(key_number, entry_id.decode()), dict(zip(flat[::2], flat[1::2], strict=True))
        )
        for key_number, entry_id, flat in reply[0]
    ]
    return Taken(entries, _repeats(reply[1]))


def _repeats(reply: Any) -> list[Repeat]:
    return [
        Repeat(EntryRef(key_number, entry_id.decode()), message_id.decode("utf-8", "replace"))
        for key_number, entry_id, message_id in reply
    ]


@contextmanager
def _translated() -> Iterator[None]:
    """Turn Redis' errors into ours. A timeout is no proof that nothing was written."""
    try:
        yield
    except (redis.RedisError, OSError) as error:  # a TimeoutError is an OSError
        text = str(error) or type(error).__name__
        if "NOGROUP" in text or "UNBLOCKED" in text:
            raise GroupLostError(text) from None
        raise StreamUnavailableError(text) from None
