"""The whole line for a test: a receiver and workers as real processes, and signed deliveries."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import redis

from hookmill.debug.fixtures import marble_headers, qstash_headers
from hookmill.message import Message
from hookmill.signatures import Scheme
from hookmill.signatures.marble import marble_scheme
from hookmill.signatures.qstash import QStash
from hookmill.stream.keys import Keys
from tests.ports import free_port
from tests.support import CURRENT_KEY, MARBLE_SECRET, NEXT_KEY, Program, signed_headers, wait_until


class Post(NamedTuple):
    """One signed delivery, ready to be posted."""

    message_id: str
    path: str
    headers: dict[str, str]
    body: bytes


class Line:
    """A receiver and some workers with one Redis. Only URL, port and keys are set, and a longer
    append timeout, because on a busy machine the default would lead to answers with 503.
    """

    def __init__(
        self, start: Callable[..., Program], folder: Path, redis_url: str, prefix: str
    ) -> None:
        self._start = start
        self.port = free_port()
        self.base = f"http://127.0.0.1:{self.port}"
        self.ledger = folder / "ledger.txt"
        self.ledger.touch()
        shutil.copy(Path(__file__).with_name("ledger.py"), folder / "ledger.py")
        self.env = {
            "REDIS_URL": redis_url,
            "PORT": str(self.port),
            "QSTASH_CURRENT_SIGNING_KEY": CURRENT_KEY,
            "QSTASH_NEXT_SIGNING_KEY": NEXT_KEY,
            "MARBLE_WEBHOOK_SECRET": MARBLE_SECRET,
            "HOOKMILL_PREFIX": prefix,
            "HOOKMILL_PARTITIONS": "1",
            "HOOKMILL_APPEND_TIMEOUT": "15",
            "LEDGER": str(self.ledger),
        }
        self._qstash = QStash([CURRENT_KEY, NEXT_KEY], public_url=self.base)
        self._marble = marble_scheme([MARBLE_SECRET])

    def receiver(self, **env: str) -> Program:
        program = self._start("receiver", env=self.env | env)
        program.wait_for('"receiving"')
        return program

    def worker(self, **env: str) -> Program:
        program = self._start("worker", "ledger:handlers", env=self.env | env)
        program.wait_for('"working"')
        return program

    def hookmill(self, *words: str, without: str = "") -> str:
        """Run a command of the command line and return what it prints. `without` names a variable
        that the command does not get.
        """
        env = {name: value for name, value in self.env.items() if name != without}
        done = subprocess.run(
            [sys.executable, "-m", "hookmill", *words],
            env={"PATH": os.environ["PATH"], **env},
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        return done.stdout

    def order(self, number: int, body: bytes | None = None) -> Post:
        message_id = f"msg_{number}"
        if body is None:
            body = b'{"type":"order.paid","order_id":"A-%d","amount":%d}' % (number, number)
        return self.order_of(message_id, body)

    def order_of(self, message_id: str, body: bytes) -> Post:
        headers = qstash_headers(body, message_id)
        return self._post(message_id, "/qstash", self._qstash, headers, body)

    def post_published(self, number: int, post: str = "") -> Post:
        message_id = f"evt_{number}"
        body = b'{"id":"evt_%d","type":"post.published","data":{"id":"%s","title":"\xc3\xa4"}}' % (
            number,
            (post or f"post_{number}").encode(),
        )
        headers = marble_headers(body, message_id)
        return self._post(message_id, "/marble", self._marble, headers, body)

    def _post(
        self, message_id: str, path: str, scheme: Scheme, headers: dict[str, str], body: bytes
    ) -> Post:
        return Post(message_id, path, headers | signed_headers(scheme, body, path), body)

    async def send(self, posts: Iterable[Post], concurrency: int = 50) -> Counter[int]:
        """Post all of them. Return how often each status was the answer."""
        statuses: Counter[int] = Counter()
        waiting = iter(posts)

        async def sender(session: aiohttp.ClientSession) -> None:
            for post in waiting:
                async with session.post(
                    self.base + post.path, data=post.body, headers=post.headers
                ) as answer:
                    statuses[answer.status] += 1

        connector = aiohttp.TCPConnector(limit=concurrency)
        async with aiohttp.ClientSession(connector=connector) as session:
            await asyncio.gather(*(sender(session) for _ in range(concurrency)))
        return statuses

    def noted(self, what: str = "end") -> Counter[str]:
        """Return how often each message ID began, or ended, in the ledger."""
        rows = (line.split() for line in self.ledger.read_text().splitlines())
        return Counter(row[1] for row in rows if row[0] == what)

    def wait_for_handled(self, count: int, timeout: float = 60.0) -> None:
        """Wait until the handlers of that many different messages have ended."""
        wait_until(
            lambda: len(self.noted()) >= count,
            timeout=timeout,
            what=f"{count} handled messages; {len(self.noted())} are",
        )

    def wait_for_drained(self, client: redis.Redis, group: str = "main") -> None:
        """Wait until nothing is unread, pending, delayed, parked, or left in the stream."""
        prefix, partitions = (self.env[f"HOOKMILL_{name}"] for name in ("PREFIX", "PARTITIONS"))
        wait_until(
            lambda: not unfinished(client, prefix, int(partitions), group),
            timeout=30,
            what="a drained stream",
        )


def unfinished(
    client: redis.Redis, prefix: str, partitions: int, group: str = "main", *, trimmed: bool = True
) -> int:
    """Count what a group has not finished in all partitions: pending, requeued, delayed, parked and
    paused messages, and ordering keys in use. With `trimmed`, count the entries of the stream as
    well: those that are unread, and those that the janitor has not removed yet.
    """
    left = 0
    for keys in (Keys(prefix, number).of_group(group) for number in range(partitions)):
        counts: list[Any] = [
            *(client.xpending(key, group)["pending"] for key in (keys.stream, keys.again)),
            *(client.xlen(keys.again), client.zcard(keys.delayed)),
            *(client.get(keys.parked) or 0, client.hlen(keys.busy)),
            client.hget(keys.paused, "count") or 0,
        ]
        if trimmed:
            counts.append(client.xlen(keys.stream))
        left += sum(map(int, counts))
    return left


def stored(client: redis.Redis, prefix: str) -> dict[str, Message]:
    """Return the messages in the stream by their source, of which each has one."""
    found: dict[str, Message] = {}
    for key in client.scan_iter(f"{prefix}:*:stream"):
        for _, fields in client.xrange(key):  # type: ignore[union-attr] # it is synchronous
            message = Message.from_fields(fields)  # type: ignore[arg-type] # bytes, as asked
            assert message.source not in found
            found[message.source] = message
    return found


def settle_down(seconds: float = 0.5) -> None:
    """Wait a moment, in which a second run would begin if there was one by mistake."""
    time.sleep(seconds)
