"""What a process that a supervisor has started knows of it, and says to it.

Both hold an end of one channel. When the supervisor dies, however that happens, its end is closed,
and the process stops. A thread of its own waits for that, because the event loop may be blocked.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

VARIABLE = "_HOOKMILL_SUPERVISED"
"""The variable with which a supervisor says all this to a process. Nothing that the process starts
inherits it.
"""

READY, LEAVING = b"r", b"l"
"""What a process says: it does its work, and it has begun to stop."""

STOP, AT_ONCE, QUESTION = b"s", b"n", b"q"
"""What a supervisor says: stop, stop at once, and: a question to the admin address comes with it on
a connection of its own.
"""


class Start(NamedTuple):
    """What a supervisor gives to a process: its number, the descriptors of the channel and of the
    sockets to listen on, and the seconds in which it has to end when the supervisor is gone.
    """

    number: int
    channel: int
    sockets: list[int]
    end_within: float


class Supervised:
    """The supervisor, as one of its processes sees it. `stop` and `stop_at_once` are called when it
    asks for that; `stop` also when it is gone. Its own thread calls them.
    """

    def __init__(
        self, start: Start, stop: Callable[[], None], stop_at_once: Callable[[], None]
    ) -> None:
        self.number = start.number
        self.sockets = [socket.socket(fileno=one) for one in start.sockets]
        """The sockets that a receiver listens on in place of one of its own."""
        self._channel = socket.socket(fileno=start.channel)
        for one in (self._channel, *self.sockets):
            one.set_inheritable(False)  # what handlers start must not keep them open
        self._end_within = start.end_within
        self._stop, self._stop_at_once = stop, stop_at_once
        self._answer: Callable[[socket.socket], object] | None = None
        threading.Thread(target=self._listen, name="supervisor", daemon=True).start()

    def answer_with(self, answer: Callable[[socket.socket], object] | None) -> None:
        """Have `answer` called with the connection of each question to the admin address. None:
        such connections are closed.
        """
        self._answer = answer

    def ready(self) -> None:
        """Say that this process does its work."""
        self._say(READY)

    def leaving(self) -> None:
        """Say that this process has begun to stop. A signal handler may call it."""
        self._say(LEAVING)

    def _say(self, word: bytes) -> None:
        with suppress(OSError):
            self._channel.send(word)

    def _listen(self) -> None:
        while True:
            try:
                word, files, _, _ = socket.recv_fds(self._channel, 1, 1)
            except OSError:
                word, files = b"", []
            if word == STOP:
                self._stop()
            elif word == AT_ONCE:
                self._stop_at_once()
            elif not word:
                break
            for file in files:
                self._pass_on(socket.socket(fileno=file))
        self._stop()
        time.sleep(self._end_within)
        os._exit(1)  # nobody else would end it

    def _pass_on(self, connection: socket.socket) -> None:
        connection.set_inheritable(False)  # or it could stay open after the answer
        answer = self._answer
        try:
            if answer is not None:
                answer(connection)
                return
        except RuntimeError:  # the event loop has ended
            pass
        connection.close()


_current: list[Supervised] = []


def current() -> Supervised | None:
    """Return the supervisor of this process; None: it has none."""
    return _current[0] if _current else None


def say_ready() -> None:
    """Say to the supervisor, if there is one, that this process does its work."""
    if supervisor := current():
        supervisor.ready()


def say_leaving() -> None:
    """Say to the supervisor, if there is one, that this process has begun to stop."""
    if supervisor := current():
        supervisor.leaving()


def is_supervised() -> bool:
    """Return whether a supervisor has started this process, and it has not yet `begin`-ed."""
    return VARIABLE in os.environ


def begin(stop: Callable[[], None], stop_at_once: Callable[[], None]) -> None:
    """Take what the supervisor says. From now on `current` returns it.

    It may be of another release than this process, which can have been installed meanwhile.
    """
    given = json.loads(os.environ.pop(VARIABLE))
    start = Start(**{name: given[name] for name in Start._fields})
    _current.append(Supervised(start, stop, stop_at_once))
