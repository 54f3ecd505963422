"""A master with replicas, and sentinels that watch them: real processes on this machine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import redis

from tests.support import Server, wait_until

NAME = "main"
DOWN_AFTER_MS = 1000
"""After so long without an answer, sentinels replace a master."""

SENTINELS = 3


class Watched:
    """A master, its replicas, and the sentinels."""

    def __init__(self, binary: str, folder: Path, replicas: int = 1) -> None:
        self._binary = binary
        self._folder = folder
        self.servers = [
            Server(
                binary, self._made(f"server{number}"), "--save", "", "--appendonly", "no",
                "--repl-diskless-sync-delay", "0",
            )
            for number in range(1 + replicas)
        ]  # fmt: skip
        self.sentinels: list[Server] = []

    @property
    def url(self) -> str:
        hosts = ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in self.sentinels)
        return f"redis+sentinel://{hosts}/{NAME}"

    def start(self) -> None:
        master, *replicas = self.servers
        for server in self.servers:
            server.start()
        for replica in replicas:
            self.ask(replica, "REPLICAOF", "127.0.0.1", master.port)
        wait_until(
            lambda: all(
                b"master_link_status:up" in self.ask(each, "INFO", "replication")
                for each in replicas
            ),
            what="the replicas to be in step",
        )
        for number in range(SENTINELS):
            config = self._made(f"sentinel{number}") / "sentinel.conf"
            config.write_text(
                f"sentinel monitor {NAME} 127.0.0.1 {master.port} 2\n"
                f"sentinel down-after-milliseconds {NAME} {DOWN_AFTER_MS}\n"
                f"sentinel failover-timeout {NAME} 5000\n"
            )
            sentinel = Server(self._binary, config.parent, "--sentinel", config=config)
            self.sentinels.append(sentinel)
            sentinel.start()
        wait_until(lambda: all(map(self._knows_all, self.sentinels)), what="the sentinels")

    def stop(self) -> None:
        for server in (*self.sentinels, *self.servers):
            server.kill()

    def ask(self, server: Server, *command: Any) -> Any:
        """Send one command, and return its reply as it is."""
        with redis.Redis(port=server.port, socket_timeout=10) as client:
            connection = client.connection_pool.get_connection()
            connection.send_command(*command)
            return connection.read_response()

    def master(self) -> Server:
        """Return the master, as the first sentinel says."""
        _, port = self.ask(self.sentinels[0], "SENTINEL", "GET-MASTER-ADDR-BY-NAME", NAME)
        return next(server for server in self.servers if server.port == int(port))

    def _knows_all(self, sentinel: Server) -> bool:
        said = self.ask(sentinel, "INFO", "sentinel")
        return f"slaves={len(self.servers) - 1},sentinels={SENTINELS}".encode() in said

    def _made(self, name: str) -> Path:
        made = self._folder / name
        made.mkdir()
        return made


@contextmanager
def running_sentinels(binary: str, folder: Path, replicas: int = 1) -> Iterator[Watched]:
    watched = Watched(binary, folder, replicas)
    try:
        watched.start()
        yield watched
    finally:
        watched.stop()
