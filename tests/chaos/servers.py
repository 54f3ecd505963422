"""The two Redis servers of a chaos run, and the clock that both read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import redis

from tests.support import Server, wait_until

_FAKETIME = [Path(f"/usr/lib/{kind}/faketime/libfaketime.so.1") for kind in
             ("x86_64-linux-gnu", "aarch64-linux-gnu")]  # fmt: skip

_OPTIONS = ("--appendonly", "yes", "--appendfsync", "always", "--save", "",
            "--repl-diskless-sync-delay", "0")  # fmt: skip


class Servers:
    """A master and its replica. They change their roles with each switch.

    Where libfaketime is installed, `can_step` is true, and both read the time from one file.
    Debian's redis-server cannot start with it (its allocator asks for the time too early).
    """

    def __init__(self, binary: str, folder: Path) -> None:
        self._clock = folder / "clock"
        self._offset = 0
        found = next((path for path in _FAKETIME if path.exists()), None)
        self.can_step = found is not None and "valkey" in Path(binary).name
        env = {
            "LD_PRELOAD": str(found),
            "FAKETIME_TIMESTAMP_FILE": str(self._clock),
            "FAKETIME_CACHE_DURATION": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }
        self._both: list[Server] = []
        for name in ("one", "two"):
            place = folder / name
            place.mkdir()
            server = Server(binary, place, *_OPTIONS, env=env if self.can_step else {})
            self._both.append(server)

    @property
    def master(self) -> Server:
        return self._both[0]

    @property
    def replica(self) -> Server:
        return self._both[1]

    def start(self) -> None:
        self.step_clock(0)
        for server in self._both:
            server.start()
        self._follow()

    def kill(self) -> None:
        for server in self._both:
            server.kill()

    def step_clock(self, seconds: int) -> None:
        """Step the clock of both servers. It takes up to a second until they notice."""
        self._offset += seconds
        self._clock.write_text(f"{self._offset:+d}\n")

    def switch(self) -> bool:
        """Make the replica the master, as an operator does who loses nothing. Return whether it was
        possible: a replica that is not in step stays one.
        """
        old, new = self._both
        with redis.Redis.from_url(old.url) as one, redis.Redis.from_url(new.url) as two:
            try:
                wait_until(lambda: _info(two)["master_link_status"] == "up", timeout=15)
            except AssertionError:
                return False
            one.client_pause(5000, all=False)
            offset = _info(one)["master_repl_offset"]
            try:
                wait_until(lambda: _info(two)["slave_repl_offset"] >= offset, timeout=3)
            except AssertionError:
                one.client_unpause()
                return False
            two.replicaof("NO", "ONE")
            self._both.reverse()
            self._follow()
            one.client_unpause()
        return True

    def _follow(self) -> None:
        with redis.Redis.from_url(self.replica.url) as client:
            client.replicaof("127.0.0.1", str(self.master.port))


def _info(client: redis.Redis) -> Any:
    return client.info("replication")
