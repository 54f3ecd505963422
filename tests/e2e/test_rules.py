"""The rules with whole programs: workers that stop and continue, outages, a full Redis."""

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
"""In seconds. On a busy machine a worker may pause for a second and must not lose its lease then.
"""

AOF = ("--appendonly", "yes", "--appendfsync", "always", "--save", "")

HANDLERS = """
import asyncio, os, pathlib, time
from hookmill import Delivery, Handlers, Message

handlers = Handlers()
ledger = os.open(os.environ["LEDGER"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
release_file = pathlib.Path(os.environ["RELEASE_FILE"])

def note(what, delivery):
    os.write(ledger, f"{what} {delivery.id} {delivery.attempt} {os.getpid()} 0\\n".encode())

if os.environ["KIND"] == "plain":
    @handlers.on("*", name="work", timeout=0.2)
    def work(delivery: Delivery[Message]) -> None:
        note("begin", delivery)
        while not release_file.exists():
            time.sleep(0.02)
        note("end", delivery)
elif os.environ["KIND"] == "blocking":
    @handlers.on("*", name="work")
    async def work(delivery: Delivery[Message]) -> None:
        note("begin", delivery)
        while not release_file.exists():
            time.sleep(0.02)
        note("end", delivery)
else:
    @handlers.on("*", name="work", attempts=int(os.environ.get("ATTEMPTS", "8")))
    async def work(delivery: Delivery[Message]) -> None:
        note("begin", delivery)
        while not release_file.exists():
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
    """A line whose handlers wait until the test creates the file that their worker was given."""

    def __init__(self, start: Callable[..., Program], folder: Path, server: Server) -> None:
        self.server = server
        self.line = Line(start, folder, server.url, "rules")
        self._start = start
        self._folder = folder
        (folder / "waiting.py").write_text(HANDLERS)
        (folder / "other.py").write_text(OTHER_HANDLERS)
        self.keys = {
            name: f"rules:{{0}}:main:{name}"
            for name in ("again", "delayed", "dead", "suspects", "sooner", "due")
        }

    def worker(self, release_file: str = "release", kind: str = "steady", **env: str) -> Program:
        given = {
            "RELEASE_FILE": str(self._folder / release_file),
            "KIND": kind,
            "HOOKMILL_LEASE": LEASE,
        }
        program = self._start("worker", "waiting:handlers", env=self.line.env | given | env)
        program.wait_for('"working"')
        return program

    def other_release(self) -> Program:
        program = self._start("worker", "other:handlers", env=self.line.env)
        program.wait_for('"working"')
        return program

    def release(self, release_file: str = "release") -> None:
        (self._folder / release_file).touch()

    def wait_for_begun(self, count: int) -> None:
        wait_until(lambda: self.line.noted("begin").total() >= count, what=f"{count} begun")

    def left(self, client: redis.Redis) -> tuple[int, int, int]:
        """Return how many messages are requeued, delayed, and dead."""
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
    place.release("first")
    sleeper.wait_for("dropped late outcomes: another worker has them")
    with redis.Redis.from_url(place.server.url) as client:
        assert place.left(client) == (0, 0, 0)
        place.release("second")
        place.line.wait_for_drained(client)
        assert place.left(client) == (0, 0, 0)
    assert (place.line.noted("begin"), place.line.noted()) == ({"msg_1": 2}, {"msg_1": 1})
    assert (sleeper.stop(), other.stop()) == (0, 0)


@pytest.mark.parametrize("how", ["killed", "frozen"])
async def test_no_message_runs_twice_after_an_outage_longer_than_the_lease(
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
    # Two workers hold at least ten messages and can renew only a second after Redis is back. The
    # third one may have free slots and could take over at once.
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
    # Long enough that sweeps are allowed again and some have been carried out.
    await asyncio.sleep(6)
    place.release()
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
    place.release()
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
        place.release()
        worker = place.worker()
        place.line.wait_for_handled(statuses[200], timeout=20)
        place.line.wait_for_drained(client)
        # Finished messages leave room, so new deliveries are accepted. Duplicates are dropped.
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
        wait_until(lambda: place.left(client) == (0, 1, 0), what="the message to be delayed")
        assert old.stop() == 0
        new = place.worker()
        place.release()
        (token,) = client.zrange(place.keys["delayed"], 0, -1)
        client.zadd(place.keys["delayed"], {token: 0})  # it is due now
        client.zadd(place.keys["due"], {place.keys["again"]: 0})
        client.xadd(place.keys["sooner"], {"due": 0})
        place.line.wait_for_handled(1)
        place.line.wait_for_drained(client)
        assert place.left(client) == (0, 0, 0)
    assert place.line.noted("begin") == {"msg_1": 1}
    assert new.stop() == 0
