"""For how long no worker has known an event type, as one worker asks for it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from hookmill import Handlers
from hookmill.errors import StreamUnavailableError
from hookmill.stream.facts import Heartbeat
from hookmill.stream.first_sights import FirstSights
from hookmill.stream.heartbeats import Heartbeats
from hookmill.stream.producer import Producer
from tests.worker.attempts import NOW, OWNER, Try, entry
from worker.attempt import Attempter
from worker.outcome import DeadLettered, RetryLater
from worker.threads import HandlerThreads
from worker.unknown_types import LOOK_PERIOD, MOST_KEPT, UnknownTypes, knows
from worker.unmatched import Sight


class Asked(FirstSights):
    """Counts how often Redis is asked, and fails on demand."""

    def __init__(self, stream: Producer) -> None:
        super().__init__(stream.client, "main")
        self.looks = 0
        self.fails = False

    async def look(self, event_type: str, *, is_known: bool = False) -> float:
        self.looks += 1
        if self.fails:
            raise StreamUnavailableError("away")
        return await super().look(event_type, is_known=is_known)


async def handle(delivery: Any) -> None: ...


@pytest.fixture
def sights(stream: Producer) -> Asked:
    return Asked(stream)


@pytest.fixture
def heartbeats(stream: Producer) -> Heartbeats:
    return Heartbeats(stream.client, "main")


class Looker:
    """One worker's view, with a clock that only a test sets."""

    def __init__(
        self, sights: FirstSights, heartbeats: Heartbeats, handlers: Handlers[Any]
    ) -> None:
        self.now = 1000.0
        self.types = UnknownTypes(sights, heartbeats, handlers, lambda: self.now)

    async def look(self, event_type: str) -> Sight:
        return await self.types.look(event_type)


@pytest.fixture
def looker(sights: Asked, heartbeats: Heartbeats) -> Looker:
    return Looker(sights, heartbeats, Handlers())


async def test_redis_is_asked_once_in_a_while_and_the_time_goes_on(
    looker: Looker, sights: Asked
) -> None:
    assert await looker.look("a") == Sight(0.0)
    looker.now += LOOK_PERIOD / 2
    assert await looker.look("a") == Sight(LOOK_PERIOD / 2)
    assert sights.looks == 1
    looker.now += LOOK_PERIOD / 2
    await looker.look("a")
    await looker.look("b")
    assert sights.looks == 3


async def test_a_type_that_a_living_worker_knows_is_known(
    looker: Looker, heartbeats: Heartbeats
) -> None:
    await heartbeats.write(Heartbeat(name="new", lease=60, handlers={"h": ("repo.*",)}))
    assert await looker.look("repo.created") == Sight(0.0, is_known=True)
    looker.now += LOOK_PERIOD / 2
    assert await looker.look("repo.created") == Sight(0.0, is_known=True)
    assert await looker.look("other") == Sight(0.0)
    await heartbeats.remove("new")
    looker.now += LOOK_PERIOD
    assert not (await looker.look("repo.created")).is_known


def test_a_heartbeat_lists_types_patterns_and_what_is_ignored() -> None:
    one = Heartbeat(name="n", handlers={"a": ("x", "y.*"), "b": ()}, ignored=("z*",))
    assert [knows([one], name) for name in ("x", "y.1", "z1", "y", "")] == [True] * 3 + [False] * 2
    assert not knows([], "x")


async def test_while_redis_is_away_nothing_is_known_and_it_is_not_asked_for_each_message(
    looker: Looker, sights: Asked
) -> None:
    sights.fails = True
    assert [await looker.look("a") for _ in range(10)] == [Sight(0.0)] * 10
    assert sights.looks == 1


async def test_types_that_a_stranger_makes_up_do_not_fill_the_memory(looker: Looker) -> None:
    for number in range(MOST_KEPT + 10):
        looker.types._looks[f"made up {number}"] = (0.0, Sight())
        if number >= MOST_KEPT - 1:
            await looker.look(f"asked {number}")
    assert len(looker.types._looks) <= MOST_KEPT


async def test_a_worker_that_starts_forgets_the_types_that_it_knows(
    sights: Asked, heartbeats: Heartbeats
) -> None:
    for event_type in ("repo.created", "push", "noise.1", "other"):
        await sights.look(event_type)
    handlers: Handlers[Any] = Handlers()
    handlers.on("repo.*")(handle)
    handlers.on("push", name="p")(handle)
    handlers.ignore("noise.*")
    await Looker(sights, heartbeats, handlers).types.forget_known()
    assert await sights.types() == ["other"]


def told(sight: Sight) -> Callable[[str], Awaitable[Sight]]:
    """Answer what a test says."""

    async def look(event_type: str) -> Sight:
        return sight

    return look


def attempter(threads: HandlerThreads, sight: Sight, grace: float = 600) -> Try:
    tried = Try(Handlers(), threads)
    tried.attempter = Attempter(
        Handlers(), None, threads, grace=grace, look=told(sight), clock=lambda: NOW
    )
    return tried


async def test_a_message_waits_for_the_rest_of_its_types_grace_period(
    threads: HandlerThreads,
) -> None:
    waits = await attempter(threads, Sight(599.5))(entry())
    assert isinstance(waits, RetryLater)
    assert waits.after <= 0.5
    dies = await attempter(threads, Sight(600))(entry())
    assert isinstance(dies, DeadLettered)
    assert dies.reason == "unhandled"


async def test_a_message_begins_to_wait_anew_while_a_living_worker_knows_its_type(
    threads: HandlerThreads,
) -> None:
    waited = entry()
    waited.fields[b"owner"], waited.fields[b"unknown"] = OWNER.encode(), b"1"
    assert isinstance(await attempter(threads, Sight())(waited), DeadLettered)
    waits = await attempter(threads, Sight(is_known=True))(waited)
    assert isinstance(waits, RetryLater)
    assert waits.progress.unknown_ms == NOW * 1000


async def test_without_grace_nobody_is_asked(threads: HandlerThreads) -> None:
    dies = await attempter(threads, Sight(is_known=True), grace=0)(entry())
    assert isinstance(dies, DeadLettered)
