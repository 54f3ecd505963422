"""No order of appends, takes and deaths leaves an entry waiting beside a worker that waits."""

from __future__ import annotations

import secrets
from typing import Any

import redis
from hypothesis import given, settings
from hypothesis import strategies as st

from hookmill.stream.consumer import Consumer
from hookmill.stream.entries import Entry, Settlement
from tests.stream.toolkit import again, bodies
from tests.support import Server, Stream, message

PARTITIONS = 3

BODIES = bodies(PARTITIONS)


class Worker:
    """A worker as its pool runs it. It has to take before it waits, and after it was woken."""

    def __init__(self, consumer: Consumer) -> None:
        self.consumer = consumer
        self.waits = False
        self.held: list[Entry] = []

    @property
    def woken_for(self) -> int | None:
        return self.consumer._wakeup._woken_for


class Model:
    """Four workers, of which each takes what it wants, when it wants, and dies at any time."""

    def __init__(self, stream: Stream, client: redis.Redis) -> None:
        self.stream = stream
        self.client = client
        self.started = 0
        self.lost: set[int] = set()
        """The partitions whose wake-up died with its worker."""
        self.workers = [self.start() for _ in range(4)]

    def start(self) -> Worker:
        self.started += 1
        return Worker(Consumer(self.stream.client, "main", f"w{self.started}", dedup_window=60))

    async def append(self, partition: int, count: int) -> None:
        await self.stream.append(
            [message(BODIES[partition], id=secrets.token_hex(4)) for _ in range(count)]
        )

    async def take(self, which: int, count: int) -> None:
        worker = self.workers[which]
        if worker.waits:
            return
        taken = await worker.consumer.take(count)
        worker.held += taken.entries
        worker.waits = not taken.has_more
        await self.wake()

    async def settle(self, which: int, count: int) -> None:
        """Of what a worker holds, settle the oldest: done, or to be taken again."""
        worker = self.workers[which]
        entries, worker.held = worker.held[:count], worker.held[count:]
        await worker.consumer.settle(
            [
                Settlement(entry.ref, (again(entry),) if number % 2 else ())
                for number, entry in enumerate(entries)
            ]
        )

    async def die(self, which: int) -> None:
        worker = self.workers[which]
        if worker.woken_for is not None:
            self.lost.add(worker.woken_for)
        await worker.consumer.close()
        self.workers[which] = self.start()

    async def wake(self) -> None:
        """Give the workers that wait the wake-ups that are there. One that would wait in vain does
        not begin to, because a server may need a tenth of a second to end that.
        """
        keys = self.stream.partitions[0]
        for worker in self.workers:
            if worker.waits and self.client.exists(keys.wake, keys.of_group("main").wake):
                assert await worker.consumer.wait(30)
                worker.waits = False

    def unread(self) -> set[int]:
        """The partitions that have entries which no worker has taken."""
        found = set()
        for number, keys in enumerate(self.workers[0].consumer.partitions):
            for key in (keys.stream, keys.again):
                groups: Any = self.client.xinfo_groups(key)
                last = groups[0]["last-delivered-id"].decode()
                if self.client.xrange(key, f"({last}", count=1):
                    found.add(number)
        return found

    def check(self) -> None:
        unread = self.unread() - self.lost
        awake = [worker for worker in self.workers if not worker.waits]
        if len(awake) < len(self.workers):
            covered = {worker.woken_for for worker in awake}
            # A worker that is awake and was not woken for one partition takes from all of them.
            assert None in covered or unread <= covered, (unread, covered)

    async def finish(self) -> None:
        """Let all take until they wait. Nothing may be left then."""
        await self.wake()
        while any(not worker.waits for worker in self.workers):
            for which in range(len(self.workers)):
                await self.take(which, 1)
        assert self.unread() <= self.lost


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.integers(0, PARTITIONS - 1), st.integers(1, 4)),
        st.tuples(st.sampled_from(["take", "settle"]), st.integers(0, 3), st.integers(1, 4)),
        st.tuples(st.just("die"), st.integers(0, 3), st.just(0)),
    ),
    max_size=40,
)


@settings(max_examples=40)
@given(steps=STEPS)
async def test_no_entry_waits_beside_a_worker_that_waits(
    server: Server, steps: list[tuple[str, int, int]]
) -> None:
    stream = Stream(server.url, f"model{secrets.token_hex(4)}", partitions=PARTITIONS)
    with redis.Redis.from_url(server.url) as client:
        model = Model(stream, client)
        await model.workers[0].consumer.open()
        try:
            for what, which, count in steps:
                match what:
                    case "append":
                        await model.append(which, count)
                    case "take":
                        await model.take(which, count)
                    case "settle":
                        await model.settle(which, count)
                    case _:
                        await model.die(which)
                await model.wake()
                model.check()
            await model.finish()
        finally:
            for worker in model.workers:
                await worker.consumer.close()
            await stream.close()
            client.flushdb()
