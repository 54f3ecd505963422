"""One process that a supervisor has started: how it is started, told to stop, asked, and how it
ended.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import NamedTuple

from hookmill.runtime import supervised
from hookmill.runtime.supervised import AT_ONCE, LEAVING, QUESTION, READY, STOP


class Said(NamedTuple):
    """What a process has answered to a question: the HTTP status, and the body."""

    status: int
    body: bytes
    content_type: str = ""


class ChildProcess:
    """A process, from its start on. Only the supervisor's event loop uses it.

    It runs in a process group of its own, so that Ctrl-C at a terminal reaches it once.
    """

    def __init__(
        self,
        number: int,
        command: Sequence[str],
        sockets: Sequence[socket.socket],
        end_within: float,
        on_ready: Callable[[], None],
    ) -> None:
        self.number = number
        self.ready, self.leaving, self.ended = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self.ready_since: float | None = None
        self.is_asked_to_stop = False
        self._on_ready = on_ready
        self._owed: list[signal.Signals] = []
        self._channel, theirs = socket.socketpair()
        listening = [one.fileno() for one in sockets]
        start = supervised.Start(number, theirs.fileno(), listening, end_within)
        self._process = subprocess.Popen(  # noqa: S603 - it is our own command
            command,
            env=os.environ | {supervised.VARIABLE: json.dumps(start._asdict())},
            pass_fds=[theirs.fileno(), *listening],
            process_group=0,
        )
        theirs.close()
        self._channel.settimeout(0)
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._channel, self._read)

    @property
    def pid(self) -> int:
        """The process's ID."""
        return self._process.pid

    @property
    def status(self) -> int | None:
        """Its exit status; of one that a signal ended, the negative number. None: it runs."""
        return self._process.returncode

    def look_whether_it_ended(self) -> None:
        """Note the end of the process, if it has ended."""
        if not self.ended.is_set() and self._process.poll() is not None:
            self._loop.remove_reader(self._channel)
            self._channel.close()
            self.ended.set()

    def stop(self) -> None:
        """Ask it to stop, if it runs; a second call does nothing. Not by a signal: whoever stops
        the supervisor may send one to all processes, and a second one would end them at once.
        """
        if not self.is_asked_to_stop and not self.ended.is_set():
            self.is_asked_to_stop = True
            self._say(STOP)

    def stop_at_once(self) -> None:
        """Ask it to do what a second signal does."""
        self._say(AT_ONCE)

    def kill(self) -> None:
        """End it by force."""
        if not self.ended.is_set():
            self._process.kill()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, or keep it until the process is ready: before, it would end it."""
        if self.ended.is_set():
            return
        if self.ready.is_set():
            self._process.send_signal(number)
        else:
            self._owed.append(number)

    async def ask(self, path: str, within: float, accept: str = "") -> Said | None:
        """Ask for a page of its admin address; None: it has not answered within the seconds."""
        ours, theirs = socket.socketpair()
        with ours, theirs:
            try:
                socket.send_fds(self._channel, [QUESTION], [theirs.fileno()])
                theirs.close()
                async with asyncio.timeout(within):
                    return await _exchange(ours, path, accept)
            except (OSError, TimeoutError, ValueError):
                return None

    def _say(self, word: bytes) -> None:
        with suppress(OSError):
            self._channel.send(word)

    def _read(self) -> None:
        try:
            words = self._channel.recv(64)
        except OSError:
            words = b""
        if not words:
            self._loop.remove_reader(self._channel)  # SIGCHLD tells of its end
        if READY in words and not self.ready.is_set():
            self.ready_since = time.monotonic()
            self.ready.set()
            self._on_ready()
            for number in self._owed:
                self._process.send_signal(number)
        if LEAVING in words:
            self.leaving.set()


async def _exchange(connection: socket.socket, path: str, accept: str) -> Said:
    """Send a request over a connection, and return the answer. `ValueError`: it is none."""
    connection.settimeout(0)
    reader, writer = await asyncio.open_unix_connection(sock=connection.dup())
    try:
        rows = [f"GET {path} HTTP/1.1", "Host: localhost"]
        if accept:
            rows.append(f"Accept: {accept}")
        writer.write("\r\n".join([*rows, "", ""]).encode())
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        body = await reader.read()
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
        raise ValueError(str(error)) from None
    finally:
        writer.close()
    status, *headers = head.split("\r\n")
    kinds = [row.partition(": ")[2] for row in headers if row.startswith("Content-Type: ")]
    return Said(int(status.split(" ")[1]), body, kinds[0] if kinds else "")
