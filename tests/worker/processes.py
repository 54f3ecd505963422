"""What the tests with worker processes share: their server, their start, and what is in Redis."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Iterable
from pathlib import Path
from textwrap import dedent
from typing import Any

import redis

from tests.support import Program, Server, Stream, message

START = """
import asyncio, os, signal, sys, time
from hookmill import Delivery, Handlers, Message

handlers = Handlers()

def say(text):
    os.write(1, f"{text}\\n".encode())  # at once, and also where print has been replaced
"""


class WorkerProcesses:
    """A server, and worker processes with handlers that a test writes."""

    def __init__(self, server: Server, start_program: Callable[..., Program], folder: Path) -> None:
        self.server = server
        self._start_program = start_program
        self.folder = folder

    def start(self, script: str, **env: str) -> Program:
        """Start a worker with the handlers of this script."""
        (self.folder / "app.py").write_text(START + dedent(script))
        given = {"REDIS_URL": self.server.url, **env}
        return self._start_program("worker", "app:handlers", env=given)

    def send(self, *types: str, body: bytes = b"{}") -> None:
        """Send a message of each type, with the IDs m0, m1 ..."""
        sent = [
            message(body, id=f"m{number}-{secrets.token_hex(3)}", type=event_type)
            for number, event_type in enumerate(types)
        ]
        asyncio.run(self._append(sent))

    async def _append(self, sent: Iterable[Any]) -> None:
        stream = Stream(self.server.url, "hookmill")
        for one in sent:
            await stream.append([one])
        await stream.close()

    @property
    def pending(self) -> int:
        """How many messages some worker holds."""
        with redis.Redis.from_url(self.server.url) as client:
            keys = ("hookmill:{0}:stream", "hookmill:{0}:main:again")
            return sum(_pending(client, key) for key in keys)

    @property
    def requeued(self) -> int:
        """How many messages wait to be run again, at once or later."""
        with redis.Redis.from_url(self.server.url) as client:
            count: Any = client.xlen("hookmill:{0}:main:again")
            return int(count)

    def is_drained(self, but: int = 0) -> bool:
        """Whether nothing waits, and nothing is held but so many messages."""
        return self.pending == but and not self.requeued


def _pending(client: redis.Redis, key: str) -> int:
    summary: Any = client.xpending(key, "main")
    return int(summary["pending"])
