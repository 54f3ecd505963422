"""The chaos run on a real Redis Cluster: `make chaos ARGS=--cluster`.

Messages with ordering keys go to all lanes at once, two workers handle them, and meanwhile masters
are replaced on purpose, frozen and killed, and slots move. Each append waits for a replica. A
message that is refused is sent again under its ID, and the next one of its key waits.

The verdict: no message is missing; only keys of a lane whose master was lost ran again or out of
order (a replica may not know an acknowledgement yet); and while a master is frozen, no append of
another lane is refused.
"""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

from hookmill.errors import NotDurableError
from hookmill.message import Message
from hookmill.stream.arrival import partition_of, row_of
from hookmill.stream.client import Client
from hookmill.stream.lane_producers import LaneProducers
from hookmill.stream.topology import slot_of
from tests.e2e.line import Line
from tests.order import KeyHistory, Row
from tests.redis_cluster import Cluster
from tests.support import Program, Server, eventually

MASTERS = 3
REPLICAS = 2
PARTITIONS = 6
WORKERS = 2
EACH = 100
"""Messages of each key."""

LIMIT = 900.0
"""Seconds until all must be accepted, and from then on until all must be handled."""


class Verdict(NamedTuple):
    """What was found. `refused` are the refusals of lanes that nothing was done to at that time."""

    messages: int
    missing: int
    run_again: int
    out_of_order: int
    unexplained: int
    refused: int
    refused_in_all: int
    seconds: float

    @property
    def is_good(self) -> bool:
        """Whether the promises hold."""
        return not (self.missing or self.unexplained or self.refused)


class ClusterChaos:
    """One run. `messages` are rounded up to whole keys."""

    def __init__(self, folder: Path, *, messages: int, seed: int, binary: str) -> None:
        self._folder = folder
        self._keys = [f"key-{number}" for number in range(-(-messages // EACH))]
        self._draw = random.Random(seed)
        self._cluster = Cluster(binary, folder, MASTERS, REPLICAS)
        self._programs: list[Program] = []
        self._accepted = 0
        self._refused: Counter[int] = Counter()
        self._unexpected = 0
        self._troubled: set[int] = set()
        """The lanes to which something is done at this moment."""
        self._handed_over: set[int] = set()
        """The lanes whose master was replaced on purpose."""
        self._lossy: set[int] = set()
        """The lanes that lost a master that had not handed over."""
        self.happened: list[str] = []
        """What was done, in its order."""

    async def run(self) -> Verdict:
        """Run it; return the verdict. Processes that it started have ended then."""
        began = time.monotonic()
        try:
            await asyncio.to_thread(self._cluster.start)
            line = Line(self._start, self._folder, self._cluster.url, "chaos")
            line.env |= {"HOOKMILL_PARTITIONS": str(PARTITIONS), "HOOKMILL_LEASE": "2"}
            for _ in range(WORKERS):
                await asyncio.to_thread(line.worker)
            client = Client(self._cluster.url, "chaos", partitions=PARTITIONS, timeout=2.0)
            producers = LaneProducers(client, durability="replicas:1")
            async with asyncio.timeout(LIMIT), asyncio.TaskGroup() as tasks:
                tasks.create_task(self._break_things(client))
                for key in self._keys:
                    tasks.create_task(self._send_key(producers, key))
            ended = len(self._keys) * EACH
            await eventually(
                lambda: len(line.noted()) >= ended, timeout=LIMIT, what=f"{ended} handled messages"
            )
            await producers.close()
            for program in self._programs:
                await asyncio.to_thread(program.stop)
        finally:
            for program in self._programs:
                program.kill()
            self._cluster.stop()
        return self._judge(line, time.monotonic() - began)

    def _start(self, *command: str, env: dict[str, str], name: str = "") -> Program:
        program = Program(self._folder, *command, env=env, name=name)
        self._programs.append(program)
        return program

    # --- messages ----------------------------------------------------------------------------

    async def _send_key(self, producers: LaneProducers, key: str) -> None:
        await asyncio.sleep(self._draw.uniform(0, 2))
        for number in range(EACH):
            message = _message(key, number)
            lane = partition_of(message, PARTITIONS)
            while True:
                was_troubled = lane in self._troubled
                (result,) = await producers.append_rows([row_of(message)])
                if isinstance(result, str):
                    break
                self._refused[lane] += 1
                # An append that was under way cannot learn from the old master whether a replica
                # has it, so it is refused. Nothing else is.
                is_doubt = lane in self._handed_over and isinstance(result, NotDurableError)
                if not (was_troubled or lane in self._troubled or is_doubt):
                    self._unexpected += 1
                    self.happened.append(f"lane {lane} refused a message: {result}")
                await asyncio.sleep(0.2)
            self._accepted += 1

    # --- faults ------------------------------------------------------------------------------

    async def _break_things(self, client: Client) -> None:
        total = len(self._keys) * EACH
        faults: list[Callable[[int, Client], Awaitable[None]]] = [
            self._replace_on_purpose,
            self._freeze,
            self._move_key_by_key,
            self._kill,
        ]
        self._draw.shuffle(faults)
        for place, fault in enumerate(faults, 1):
            enough = total * place / (len(faults) + 2)
            await eventually(partial(self._has_accepted, enough), timeout=LIMIT)
            await eventually(self._cluster.is_well, timeout=60)
            lane = self._draw.randrange(PARTITIONS)
            self.happened.append(f"{fault.__name__.strip('_')}: lane {lane}")
            await fault(lane, client)

    def _has_accepted(self, enough: float) -> bool:
        return self._accepted >= enough

    def _server_of(self, lane: int, client: Client) -> Server:
        return self._cluster.server_of(client.partitions[lane].stream)

    def _lanes_of(self, server: Server, client: Client) -> set[int]:
        """Return all lanes whose master this is."""
        return {n for n in range(PARTITIONS) if self._server_of(n, client) is server}

    async def _replace_on_purpose(self, lane: int, client: Client) -> None:
        old = self._server_of(lane, client)
        replica = self._replica_of(old)
        self._handed_over |= self._lanes_of(old, client)
        await asyncio.to_thread(self._cluster.ask, replica, "CLUSTER", "FAILOVER")
        await eventually(lambda: self._server_of(lane, client) is not old)

    async def _freeze(self, lane: int, client: Client) -> None:
        old = self._server_of(lane, client)
        self._troubled = self._lanes_of(old, client)
        self._lossy |= self._troubled
        old.signal(signal.SIGSTOP)
        await eventually(lambda: self._has_moved(lane, client, old), timeout=60)
        await asyncio.sleep(5)
        old.signal(signal.SIGCONT)
        await eventually(self._cluster.is_well, timeout=60)
        self._troubled = set()

    async def _kill(self, lane: int, client: Client) -> None:
        old = self._server_of(lane, client)
        self._troubled = self._lanes_of(old, client)
        self._lossy |= self._troubled
        old.kill()
        await eventually(lambda: self._has_moved(lane, client, old), timeout=60)
        await asyncio.sleep(5)
        await asyncio.to_thread(old.start)
        await eventually(self._cluster.is_well, timeout=60)
        self._troubled = set()

    async def _move_key_by_key(self, lane: int, client: Client) -> None:
        key = client.partitions[lane].stream
        source, slot = self._server_of(lane, client), slot_of(key)
        masters = {self._server_of(n, client) for n in range(PARTITIONS)} - {source}
        target = min(masters, key=lambda server: server.port)
        self._troubled = {lane}
        cluster = self._cluster
        await asyncio.to_thread(cluster.begin_to_move, slot, source, target)
        while await asyncio.to_thread(cluster.move_keys, slot, source, target, 50):
            pass
        await asyncio.to_thread(cluster.end_move, slot, source, target)
        await asyncio.sleep(1)
        self._troubled = set()

    def _has_moved(self, lane: int, client: Client, old: Server) -> bool:
        """Return whether a node that is well says that another one serves the lane."""
        key = client.partitions[lane].stream
        others = [node for node in self._cluster.nodes if node is not old]
        return self._cluster.server_of(key, others) is not old

    def _replica_of(self, master: Server) -> Server:
        """Return a replica that a master has now."""
        said = self._cluster.ask(master, "CLUSTER", "REPLICAS", self._cluster.id_of(master))
        port = int(said[0].split()[1].split(b"@")[0].rpartition(b":")[2])
        return next(node for node in self._cluster.nodes if node.port == port)

    # --- verdict -----------------------------------------------------------------------------

    def _judge(self, line: Line, seconds: float) -> Verdict:
        by_key: defaultdict[str, KeyHistory] = defaultdict(KeyHistory)
        for text in line.ledger.read_text().splitlines():
            what, message_id, _, pid, moment = text.split()
            key, _, number = message_id.rpartition("-")
            by_key[key].read(Row(what == "end", key, int(number), int(pid), float(moment)), ())
        lossy = {
            key for key in self._keys if partition_of(_message(key, 0), PARTITIONS) in self._lossy
        }
        odd = {key: by_key[key].run_again | by_key[key].out_of_order for key in self._keys}
        return Verdict(
            messages=len(self._keys) * EACH,
            missing=sum(EACH - len(by_key[key].ended & set(range(EACH))) for key in self._keys),
            run_again=sum(len(by_key[key].run_again) for key in self._keys),
            out_of_order=sum(len(by_key[key].out_of_order) for key in self._keys),
            unexplained=sum(len(numbers) for key, numbers in odd.items() if key not in lossy),
            refused=self._unexpected,
            refused_in_all=self._refused.total(),
            seconds=seconds,
        )


def _message(key: str, number: int) -> Message:
    body = b'{"type":"order.paid","order_id":"%s","amount":%d}' % (key.encode(), number)
    return Message(
        id=f"{key}-{number}", source="qstash", type="order.paid", body=body, received_ms=0, key=key
    )
