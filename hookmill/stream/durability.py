"""Durability levels: what an append must have reached before its senders get their 200.

Each level is one command that follows the append, on the same connection and in the same round
trip, and a check of its reply. So every append is checked: also after a reconnect, after a failover
to another kind of server, and after somebody changed the server's configuration.
"""

from __future__ import annotations

from typing import Any

from hookmill.errors import NotDurableError

_MARGIN = 0.25
"""Seconds of an append's timeout that are kept free, because the network takes time and Redis looks
at its blocked clients only ten times a second. At least a fifth of the timeout, at most half.
"""


class Durability:
    """One level: `memory`, `aof` or `replicas:N`. `timeout` is that of an append, in seconds."""

    def __init__(self, level: str, timeout: float) -> None:
        self.level = level
        margin = min(max(_MARGIN, timeout / 5), timeout / 2)
        self._wait_ms = max(1, int((timeout - margin) * 1000))
        self._replicas = int(level.partition(":")[2] or 0)
        self._has_waitaof = True

    @property
    def command(self) -> tuple[str | int, ...] | None:
        """The command that follows an append; None where the level needs none."""
        if self._replicas:
            return "WAIT", self._replicas, self._wait_ms
        if self.level == "memory":
            return None
        if self._has_waitaof:
            return "WAITAOF", 1, 0, self._wait_ms
        return "CONFIG", "GET", "append*"

    def judge(self, reply: Any) -> bool:
        """Raise `NotDurableError` unless the reply to `command` says that the level was reached.

        Return False if the server does not know the command. From then on `command` returns another
        one, which the caller has to send.
        """
        if self._replicas:
            self._judge_replicas(reply)
        elif self._has_waitaof:
            return self._judge_waitaof(reply)
        else:
            self._judge_configuration(reply)
        return True

    def _judge_replicas(self, reply: Any) -> None:
        if isinstance(reply, Exception):
            raise NotDurableError(f"WAIT: {reply}")
        if reply < self._replicas:
            raise NotDurableError(f"{reply} of {self._replicas} replicas have it")

    def _judge_waitaof(self, reply: Any) -> bool:
        if isinstance(reply, Exception):
            if "unknown command" in str(reply).lower():
                self._has_waitaof = False
                return False
            raise NotDurableError(f"WAITAOF: {reply}")
        if reply[0] < 1:
            raise NotDurableError("Redis did not sync its append-only file in time")
        return True

    def _judge_configuration(self, reply: Any) -> None:
        """Judge a server without WAITAOF: it must sync each write before it answers."""
        if isinstance(reply, Exception):
            raise NotDurableError(
                f"Redis has no WAITAOF, and its configuration cannot be read: {reply}"
            )
        found = dict(zip(reply[::2], reply[1::2], strict=True))
        if (found.get(b"appendonly"), found.get(b"appendfsync")) != (b"yes", b"always"):
            raise NotDurableError(
                "Redis has no WAITAOF: it needs `appendonly yes` and `appendfsync always`"
            )
