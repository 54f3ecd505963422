"""The rules under whole programs: workers that stop and wake up, outages, a full Redis."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.e2e.line import Line, settle_down
from tests.support import Program, Server, wait_until

LEASE = "3"
"""In seconds. A busy machine may stand still for a second, and nobody is to lose a lease by it."""

AOF = ("--appendonly", "yes", "--appendfsync", "always", "--save", "")

HANDLERS = """
import asyncio, os, pathlib, time
from hookmill import Delivery, Handlers, Message

handlers = Handlers()
ledger = os.open(os.environ["LEDGER"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
gate = pathlib.Path(os.environ["GATE"])

def note(what, delivery):
    os.write(ledger, f"{what} {delivery.id} {delivery.attempt} {os.getpid()} 0\\n".encode())

if os.environ["KIND"] == "plain":
    @handlers.on("*", name="work", timeout=0.2)
    def work(delivery: Delivery[Message]) -> None:
        note("begin", delivery)
        while not gate.exists():
            time.sleep(0.02)
        note("end", delivery)
elif os.environ["KIND"] == "blocking":
    @handlers.on("*", name="work")
    async def work(delivery: Delivery[Message]) -> None:
        note("begin", delivery)
        while not gate.exists():
            time.sleep(0.02)
        note("end", delivery)
else:
    @handlers.on("*", name="work", attempts=int(os.environ.get("ATTEMPTS", "8")))
    async def work(delivery: Delivery[Message]) -> None:
        note("begin", delivery)
        while not gate.exists():
            await asyncio.sleep(0.02)
        if os.environ["KIND"] == "failing":
            raise ValueError("too late")
        note("end", delivery)
"""

OTHER_HANDLERS = """
from hookmill import Delivery, Handlers, Message

handlers = Handlers()

@handlers.on("order.refunded")
async def work(delivery: Delivery[Message]) -> None:
    pass
"""


class Place:
    """A line whose handlers wait until the gate that their worker was given is opened."""

    def __init__(self, start: Callable[..., Program], folder: Path, server: Server) -> None:
        self.server = server
        self.line = Line(start, folder, server.url, "rules")
        self._start = start
        self._folder = folder
        (folder / "gated.py").write_text(HANDLERS)
        (folder / "other.py").write_text(OTHER_HANDLERS)
        self.keys = {
            name: f"rules:{{0}}:main:{name}"
            for name in ("again", "delayed", "dead", "suspects", "sooner")
        }

    def worker(self, gate: str = "gate", kind: str = "steady", **env: str) -> Program:
        given = {"GATE": str(self._folder / gate), "KIND": kind, "HOOKMILL_LEASE": LEASE}
        program = self._start("worker", "gated:handlers", env=self.line.env | given | env)
        program.wait_for('"working"')
        return program

    def other_release(self) -> Program:
        program = self._start("worker", "other:handlers", env=self.line.env)
        program.wait_for('"working"')
        return program

    def open(self, gate: str = "gate") -> None:
        (self._folder / gate).touch()

    def wait_for_begun(self, count: int) -> None:
        wait_until(lambda: self.line.noted("begin").total() >= count, what=f"{count} begun")

    def left(self, client: redis.Redis) -> tuple[int, int, int]:
        """How many are to be taken again, delayed, and dead."""
        again, delayed, dead, *_ = self.keys.values()
        return int(client.xlen(again)), int(client.zcard(delayed)), int(client.xlen(dead))


@pytest.fixture
def place(
    start_program: Callable[..., Program], own_server: Callable[..., Server], tmp_path: Path
) -> Place:
    return Place(start_program, tmp_path, own_server(*AOF))


@pytest.mark.parametrize("attempts", ["8", "1"], ids=["a retry", "a dead letter"])
async def test_a_worker_that_was_stopped_past_its_lease_changes_nothing_when_it_wakes_up(
    place: Place, attempts: str
) -> None:
    place.line.receiver()
    sleeper = place.worker("first", "failing", ATTEMPTS=attempts)
    await place.line.send([place.line.order(1)])
    place.wait_for_begun(1)
    sleeper.signal(signal.SIGSTOP)
    other = place.worker("second")
    place.wait_for_begun(2)

    sleeper.signal(signal.SIGCONT)
    sleeper.wait_for("leases lost: another worker has these messages")
    place.open("first")
    sleeper.wait_for("dropped late outcomes: another worker has them")
    with redis.Redis.from_url(place.server.url) as client:
        assert place.left(client) == (0, 0, 0)
        place.open("second")
        place.line.wait_for_drained(client)
        assert place.left(client) == (0, 0, 0)
    assert (place.line.noted("begin"), place.line.noted()) == ({"msg_1": 2}, {"msg_1": 1})
    assert (sleeper.stop(), other.stop()) == (0, 0)


@pytest.mark.parametrize("how", ["killed", "frozen"])
async def test_an_outage_longer_than_the_lease_makes_nobody_run_twice(
    place: Place, how: str
) -> None:
    receiver = place.line.receiver()
    workers = [place.worker(HOOKMILL_LEASE="3", HOOKMILL_CONCURRENCY="20") for _ in range(3)]
    await place.line.send(place.line.order(number) for number in range(30))
    place.wait_for_begun(30)
    if how == "killed":
        place.server.kill()
    else:
        place.server.signal(signal.SIGSTOP)
    await asyncio.sleep(4)
    # Two of them hold ten messages at least, and come to renew only a second after Redis is back;
    # the third has hands free, and could sweep at once.
    *late, _ = workers
    for worker in late:
        worker.signal(signal.SIGSTOP)
    if how == "killed":
        place.server.start()
    else:
        place.server.signal(signal.SIGCONT)
    await asyncio.sleep(1)
    for worker in late:
        worker.signal(signal.SIGCONT)
    # Until sweeps are allowed again, and some have been through.
    await asyncio.sleep(6)
    place.open()
    place.line.wait_for_handled(30)
    with redis.Redis.from_url(place.server.url) as client:
        place.line.wait_for_drained(client)
    assert place.line.noted("begin") == {f"msg_{number}": 1 for number in range(30)}
    assert place.line.noted() == place.line.noted("begin")
    assert [program.stop() for program in (receiver, *workers)] == [0] * 4


@pytest.mark.parametrize("kind", ["blocking", "plain"])
async def test_a_handler_keeps_its_message_beyond_its_lease(place: Place, kind: str) -> None:
    place.line.receiver()
    keeper = place.worker(kind=kind)
    await place.line.send([place.line.order(1)])
    place.wait_for_begun(1)
    place.worker(kind="steady")
    settle_down(2.5 * float(LEASE))
    place.open()
    place.line.wait_for_handled(1)
    with redis.Redis.from_url(place.server.url) as client:
        place.line.wait_for_drained(client)
        assert place.left(client) == (0, 0, 0)
    assert place.line.noted("begin") == place.line.noted() == {"msg_1": 1}
    assert keeper.stop() == 0


async def test_a_full_redis_is_drained_by_its_workers_and_then_takes_deliveries_again(
    place: Place,
) -> None:
    place.line.receiver()
    posts = [
        place.line.order(number, b'{"type":"order.paid","pad":"%s"}' % (b"x" * 50_000))
        for number in range(400)
    ]
    with redis.Redis.from_url(place.server.url) as client:
        used: Any = client.info("memory")
        client.config_set("maxmemory", used["used_memory"] + 8_000_000)
        statuses = await place.line.send(posts)
        assert statuses[503] > 0
        assert statuses[200] > 0
        place.open()
        worker = place.worker()
        place.line.wait_for_handled(statuses[200], timeout=20)
        place.line.wait_for_drained(client)
        # What is over makes room: the sender is heard again, and what it repeats is dropped.
        assert await place.line.send(posts[:50]) == {200: 50}
        place.line.wait_for_handled(statuses[200])
        place.line.wait_for_drained(client)
    assert set(place.line.noted("begin").values()) == {1}
    assert worker.stop() == 0


async def test_a_message_that_an_old_release_does_not_know_is_handled_by_the_new_one(
    place: Place,
) -> None:
    place.line.receiver()
    old = place.other_release()
    await place.line.send([place.line.order(1)])
    with redis.Redis.from_url(place.server.url) as client:
        wait_until(lambda: place.left(client) == (0, 1, 0), what="it to be put off")
        assert old.stop() == 0
        new = place.worker()
        place.open()
        (token,) = client.zrange(place.keys["delayed"], 0, -1)
        client.zadd(place.keys["delayed"], {token: 0})  # its time has come
        client.xadd(place.keys["sooner"], {"due": 0})
        place.line.wait_for_handled(1)
        place.line.wait_for_drained(client)
        assert place.left(client) == (0, 0, 0)
    assert place.line.noted("begin") == {"msg_1": 1}
    assert new.stop() == 0
