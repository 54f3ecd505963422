"""A real Redis Cluster of several servers on this machine, which tests can break and rebuild."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import redis

from hookmill.stream.topology import SLOTS, slot_of
from tests.ports import free_port
from tests.support import Server, wait_until

NODE_TIMEOUT_MS = 1500
"""After so long without an answer, the others replace a master."""


class Cluster:
    """Servers that are one cluster: the masters first, then their replicas in the same order."""

    def __init__(self, binary: str, folder: Path, masters: int = 3, replicas: int = 0) -> None:
        self.masters = masters
        self.nodes: list[Server] = []
        for number in range(masters * (1 + replicas)):
            place = folder / f"node{number}"
            place.mkdir()
            self.nodes.append(
                Server(
                    binary, place, "--save", "", "--appendonly", "no",
                    "--cluster-enabled", "yes", "--cluster-port", str(free_port()),
                    "--cluster-node-timeout", str(NODE_TIMEOUT_MS),
                    "--cluster-require-full-coverage", "no",
                    "--repl-diskless-sync-delay", "0", "--repl-diskless-load", "swapdb",
                )
            )  # fmt: skip

    @property
    def url(self) -> str:
        hosts = ",".join(f"127.0.0.1:{node.port}" for node in self.nodes[: self.masters])
        return f"redis+cluster://{hosts}"

    def start(self) -> None:
        for node in self.nodes:
            node.start()
        share = SLOTS / self.masters
        for number, node in enumerate(self.nodes[: self.masters]):
            first, end = round(number * share), round((number + 1) * share)
            self.ask(node, "CLUSTER", "ADDSLOTSRANGE", first, end - 1)
            self.ask(node, "CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        for node in self.nodes[1:]:
            self.ask(self.nodes[0], "CLUSTER", "MEET", "127.0.0.1", node.port, _bus_port(node))
        wait_until(
            lambda: all(len(self._known_to(node)) == len(self.nodes) for node in self.nodes),
            what="the nodes to know each other",
        )
        for number, node in enumerate(self.nodes[self.masters :]):
            of = self.nodes[number % self.masters]
            self.ask(node, "CLUSTER", "REPLICATE", self.id_of(of))
        wait_until(self.is_well, what="the cluster to be well")

    def stop(self) -> None:
        for node in self.nodes:
            node.kill()

    def is_well(self) -> bool:
        """Whether every node says that all is well, and every replica is in step."""
        masters = 0
        for node in self.nodes:
            if b"cluster_state:ok" not in self.ask(node, "CLUSTER", "INFO"):
                return False
            link = self.ask(node, "INFO", "replication")
            masters += b"role:master" in link
            if b"role:slave" in link and b"master_link_status:up" not in link:
                return False
            if len(self.ask(node, "CLUSTER", "SLOTS")) < self.masters:
                return False
        return masters == self.masters

    def ask(self, node: Server, *command: Any) -> Any:
        """Send one command to one node, and return its reply as it is."""
        with redis.Redis(port=node.port, socket_timeout=10) as client:
            client.response_callbacks.clear()
            return client.execute_command(*command)

    def id_of(self, node: Server) -> bytes:
        return bytes(self.ask(node, "CLUSTER", "MYID"))

    def replica_of(self, master: Server) -> Server:
        """Return the replica that a master was given at the start."""
        return self.nodes[self.masters + self.nodes.index(master)]

    def server_of(self, key: str, asked: Sequence[Server] = ()) -> Server:
        """Return the node that has a key now, as the first node that answers says, of those asked
        or of all.
        """
        slot = slot_of(key)
        for node in asked or self.nodes:
            try:
                rows = self.ask(node, "CLUSTER", "SLOTS")
            except redis.RedisError:
                continue
            for first, last, (_, port, *_), *_ in rows:
                if first <= slot <= last:
                    return next(each for each in self.nodes if each.port == port)
        raise AssertionError(f"no node has {key}")

    def keys(self, pattern: str) -> list[bytes]:
        """Return the keys of all nodes that answer."""
        return [key for node in self.nodes for key in self.ask(node, "KEYS", pattern)]

    def begin_to_move(self, slot: int, source: Server, target: Server) -> None:
        """Begin to move a slot in the classic way, key by key."""
        self.ask(target, "CLUSTER", "SETSLOT", slot, "IMPORTING", self.id_of(source))
        self.ask(source, "CLUSTER", "SETSLOT", slot, "MIGRATING", self.id_of(target))

    def move_keys(self, slot: int, source: Server, target: Server, most: int = 10_000) -> int:
        """Move up to so many keys of a slot; return how many were moved."""
        keys = self.ask(source, "CLUSTER", "GETKEYSINSLOT", slot, most)
        for key in keys:
            self.ask(source, "MIGRATE", "127.0.0.1", target.port, key, 0, 5000)
        return len(keys)

    def end_move(self, slot: int, source: Server, target: Server) -> None:
        """Give the slot to its new node, and have all nodes know."""
        for node in (target, source):
            self.ask(node, "CLUSTER", "SETSLOT", slot, "NODE", self.id_of(target))

    def _known_to(self, node: Server) -> list[bytes]:
        lines = self.ask(node, "CLUSTER", "NODES").splitlines()
        return [line for line in lines if b"handshake" not in line]


def _bus_port(node: Server) -> int:
    """Return the port by which nodes speak with each other."""
    options = node.options
    return int(options[options.index("--cluster-port") + 1])


@contextmanager
def running_cluster(
    binary: str, folder: Path, masters: int = 3, replicas: int = 0
) -> Iterator[Cluster]:
    cluster = Cluster(binary, folder, masters, replicas)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()
