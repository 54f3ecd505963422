"""Nothing is lost: not with a worker, not with Redis, not in a deploy, not behind a 200."""

from __future__ import annotations

import functools
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import redis
from structlog.testing import capture_logs

from hookmill import Delivery, Event, Handlers, Message, Retry
from hookmill.handlers import Backoff
from hookmill.stream.consumer import Consumer
from hookmill.stream.dead_letters import DeadLetters
from hookmill.stream.producer import Producer
from tests.peers import (
    AOF,
    LONG,
    MakeSettings,
    OwnServer,
    Senders,
    StartProgram,
    View,
    Work,
    die,
    environment,
    http_client,
    names,
    order,
    post,
    receiving,
    send,
    settings_for,
    working,
)
from tests.support import (
    CURRENT_KEY,
    Server,
    Stream,
    dead_letters,
    eventually,
    free_port,
    wait_until,
)
from worker import attempt, janitor

AT_ONCE = Backoff(first=0)


@pytest.fixture
def view(redis_client: redis.Redis, prefix: str) -> View:
    return View(redis_client, prefix)


@pytest.fixture
def busy_janitor(monkeypatch: pytest.MonkeyPatch) -> None:
    """The upkeep of hours in a moment."""
    monkeypatch.setattr(janitor, "PERIOD", 0.02)
    monkeypatch.setattr(janitor, "CONSUMER_IDLE", 0.0)


# --- a worker dies --------------------------------------------------------------------------


async def test_a_worker_killed_between_the_taking_and_the_first_handler_loses_nothing(
    stream: Producer,
    settings: MakeSettings,
    start_program: StartProgram,
    tmp_path: Path,
    server: Server,
    prefix: str,
    view: View,
) -> None:
    """rq/rq#2015, #1716, #2424: a job popped by a worker that dies before it starts is nowhere.

    redpanda-data/connect#2662: what is pending is never reclaimed. taskiq-redis 1.2.4, seen: an
    orphan waits until a new message arrives. Here none does.
    """
    await send(stream, names(5))
    begun = die(start_program, tmp_path, environment(server, prefix), "after take")
    assert begun == []
    assert view.pending() == 5
    work = Work()
    async with working(settings(lease=0.5), work.handlers):
        await view.drained()
    assert work.done == Counter(names(5))


async def test_a_worker_killed_in_its_sweep_locks_nobody_out_of_the_next(
    stream: Producer,
    settings: MakeSettings,
    start_program: StartProgram,
    tmp_path: Path,
    server: Server,
    prefix: str,
    view: View,
) -> None:
    """taskiq-python/taskiq-redis#131: a lock around the claim, held for good after SIGKILL."""
    gone = Consumer(stream.client, "main", "gone", dedup_window=3600)
    await gone.open()
    await send(stream, names(5))
    await gone.take(5)
    await gone.close()
    die(start_program, tmp_path, environment(server, prefix), "after take_over")
    assert view.pending() == 5
    work = Work()
    async with working(settings(lease=0.5), work.handlers):
        await view.drained()
    assert work.done == Counter(names(5))


async def test_a_worker_killed_while_it_lets_retries_go_loses_none(
    stream: Producer,
    settings: MakeSettings,
    start_program: StartProgram,
    tmp_path: Path,
    server: Server,
    prefix: str,
    view: View,
) -> None:
    """Vexa-ai/vexa#520 (fix #614): retries popped into a process that dies are gone."""
    first = Work()
    first.fails = lambda _: Retry(after=0.5)
    async with working(settings(), first.handlers) as worker:
        await send(stream, names(5))
        await eventually(lambda: view.client.zcard(view.delayed) == 5)
        await worker.stop(5)
    die(start_program, tmp_path, environment(server, prefix), "after release")
    work = Work()
    async with working(settings(lease=0.5), work.handlers):
        await eventually(lambda: len(work.done) == 5)
        await view.drained()
    assert work.done == Counter(names(5))


async def test_a_worker_killed_before_its_acknowledgement_leaves_nothing_active_for_ever(
    stream: Producer,
    settings: MakeSettings,
    start_program: StartProgram,
    tmp_path: Path,
    server: Server,
    prefix: str,
    view: View,
) -> None:
    """hibiken/asynq#1051: done in reality, never acknowledged, active for ever.

    It runs a second time, which is the price of losing none.
    """
    await send(stream, ["m0"])
    begun = die(start_program, tmp_path, environment(server, prefix), "before settle")
    assert begun == ["m0"]
    work = Work()
    async with working(settings(lease=0.5), work.handlers):
        await view.drained()
    assert work.done == Counter(["m0"])


def cluster_state(client: redis.Redis) -> str:
    run: Any = client.execute_command
    return str(dict(run("CLUSTER INFO")).get("cluster_state"))


async def test_on_a_server_in_cluster_mode_a_dead_workers_messages_are_taken_over_as_well(
    own_server: OwnServer,
) -> None:
    """taskiq-python/taskiq-redis#130, #97: on Cluster and Sentinel nobody recovers anything.

    One node with all slots, as managed servers in cluster mode present themselves: every script
    has to keep to one slot.
    """
    server = own_server("--cluster-enabled", "yes", "--cluster-port", str(free_port()))
    with redis.Redis.from_url(server.url) as client:
        run: Any = client.execute_command
        run("CLUSTER ADDSLOTSRANGE", 0, 16383)
        wait_until(lambda: cluster_state(client) == "ok", what="a cluster of one")
        view = View(client, "t")
        stream = Stream(server.url, "t")
        gone = Consumer(stream.client, "main", "gone", dedup_window=3600)
        await gone.open()
        await send(stream, names(5))
        await gone.take(5)
        await gone.close()
        work = Work(attempts=2, backoff=AT_ONCE)
        work.fails = lambda given: ValueError() if given.id == "m0" else None
        configured = settings_for(server, lease=0.5)
        async with working(configured, work.handlers):
            await eventually(view.dead_letters, what="m0 to be given up")
            await view.drained()
        await stream.close()
    assert work.done == Counter(names(4, 1))
    assert work.began["m0"] == 2


async def test_a_dead_workers_consumer_stays_until_its_last_message_was_taken_over(
    stream: Producer, settings: MakeSettings, view: View, busy_janitor: None
) -> None:
    """ThreeDotsLabs/watermill-redisstream#24: DELCONSUMER takes what is still pending along."""
    gone = Consumer(stream.client, "main", "gone", dedup_window=3600)
    await gone.open()
    await send(stream, names(10))
    await gone.take(10)
    await gone.close()
    work = Work(wait=True)
    async with working(settings(lease=0.5, concurrency=1), work.handlers):
        await eventually(lambda: work.began, what="the first to be taken over")
        turns = view.calls("xtrim") + 5
        await eventually(lambda: view.calls("xtrim") >= turns, what="turns of the janitor")
        assert "gone" in view.consumers()
        work.go_on.set()
        await view.drained()
        await eventually(lambda: "gone" not in view.consumers(), what="the consumer to go")
    assert work.done == Counter(names(10))


async def test_what_a_living_worker_runs_is_neither_buried_nor_run_by_the_others(
    stream: Producer, settings: MakeSettings, view: View
) -> None:
    """rq/rq#2061: another worker's upkeep moved jobs to the failed ones while they ran."""
    work = Work(wait=True)
    await send(stream, names(3))
    # Its hands are full, so it has nothing but its renewals to show that it lives.
    async with working(settings(lease=2, concurrency=3), work.handlers):
        await eventually(lambda: len(work.began) == 3)
        async with working(settings(lease=2), work.handlers):
            await view.sweeps(8)
            work.go_on.set()
            await view.drained()
    assert work.began == work.done == Counter(names(3))
    assert view.dead_letters() == []


# --- a handler fails ------------------------------------------------------------------------


async def test_a_handler_that_raised_runs_again_though_its_worker_was_restarted(
    stream: Producer, settings: MakeSettings, view: View
) -> None:
    """FastStream 0.7.8, seen: the entry stays pending and is not delivered after a restart.

    eggai-tech/EggAI#178: the message of a handler that raised was acknowledged, and gone.
    """
    first = Work(backoff=Backoff(first=0.2, factor=1))
    first.fails = lambda _: ValueError("not today")
    async with working(settings(lease=LONG), first.handlers) as worker:
        await send(stream, ["m0"])
        await eventually(lambda: first.began)
        await worker.stop(5)
    second = Work()
    async with working(settings(lease=LONG), second.handlers):
        await eventually(lambda: second.done)
        await view.drained()
    assert second.done == Counter(["m0"])
    assert second.attempts["m0"] == first.attempts["m0"] + 1


async def test_what_fails_to_the_end_is_kept_whole_and_can_be_sent_back(
    stream: Producer, settings: MakeSettings, view: View
) -> None:
    """eggai-tech/EggAI#178: failing messages acknowledged as if they had succeeded.

    Hookaido's changelog: dead letters that were sent back kept their count, and died at once.
    """
    work = Work(attempts=2, backoff=AT_ONCE)
    work.fails = lambda _: ValueError("no such account")
    async with working(settings(), work.handlers):
        await send(stream, ["m0"], body=b'{"the":"body"}')
        await eventually(view.dead_letters)
        (letter,) = view.dead_letters()
        assert (letter[b"body"], letter[b"reason"]) == (b'{"the":"body"}', b"failed")
        work.fails = lambda _: None
        found = [one.id for one in await dead_letters(stream)]
        assert await DeadLetters(stream.client, "main").replay(found) == 1
        await eventually(lambda: work.done)
        await view.drained()
    assert (work.began["m0"], work.done["m0"], work.attempts["m0"]) == (3, 1, 1)


class OrderPaid(Event, tag="order.paid"):
    amount: int


async def test_what_cannot_be_read_is_kept_with_its_bytes(
    stream: Producer, settings: MakeSettings, view: View
) -> None:
    """taskiq, in its source: an unparsable message is acknowledged and dropped."""
    handlers = Handlers()
    ran = []

    @handlers.on(OrderPaid)
    async def book(delivery: Delivery[OrderPaid]) -> None:
        ran.append(delivery.id)

    async with working(settings(grace=0), handlers):
        await send(stream, ["broken"], type="order.paid", body=b'{"amount":')
        await send(stream, ["wrong"], type="order.paid", body=b'{"amount":"much"}')
        view.client.xadd(view.stream, {"who": "wrote this?"})
        await eventually(lambda: len(view.dead_letters()) == 3)
        await view.drained()
    kept = {letter.get(b"body", letter.get(b"who")) for letter in view.dead_letters()}
    assert kept == {b'{"amount":', b'{"amount":"much"}', b"wrote this?"}
    assert ran == []
    view.client.delete(view.dead)


# --- Redis dies -----------------------------------------------------------------------------


async def test_what_waits_what_runs_and_what_is_due_later_survive_a_restart_of_redis(
    own_server: OwnServer,
) -> None:
    """celery/celery#1789: Redis goes down and up, workers reconnect, some tasks never run."""
    server = own_server(*AOF)
    stream = Stream(server.url, "t")
    work = Work(wait=True)
    work.fails = lambda given: (
        Retry(after=1) if given.id == "later" and work.began["later"] == 1 else None
    )
    async with working(settings_for(server, concurrency=1), work.handlers):
        with redis.Redis.from_url(server.url) as client:
            view = View(client, "t")
            await send(stream, ["later"])
            await eventually(lambda: work.began)
            work.go_on.set()
            await eventually(lambda: client.zcard(view.delayed))
            work.go_on.clear()
            await send(stream, ["runs", *names(3)])
            await eventually(lambda: work.began["runs"])
        server.kill()
        with capture_logs() as lines:
            work.go_on.set()  # it ends while there is nobody to tell
            await eventually(lambda: any("cannot settle" in line["event"] for line in lines))
        server.start()
        with redis.Redis.from_url(server.url) as client:
            await eventually(lambda: len(work.done) == 5, timeout=30)
            await View(client, "t").drained()
    await stream.close()
    # What ran is done, though its acknowledgement had to wait: nothing ran twice for it.
    assert work.done == Counter(["later", "runs", *names(3)])


# --- a rolling deploy -----------------------------------------------------------------------


@pytest.fixture
def quick_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempt, "GRACE_STEP", 0.1)


def release(*types: str, suffix: str = "") -> tuple[Handlers[None], Counter[str]]:
    """A release of the user's code that knows these event types."""
    handlers = Handlers()
    ran: Counter[str] = Counter()

    async def note(delivery: Delivery[Message]) -> None:
        ran[delivery.id] += 1

    for event_type in types:
        handlers.on(event_type, name=f"{event_type}{suffix}")(note)
    return handlers, ran


async def test_what_the_old_release_does_not_know_waits_for_the_new_one(
    stream: Producer, settings: MakeSettings, view: View, quick_looks: None
) -> None:
    """chrisguidry/docket#437, #247: an old worker acknowledged and dropped the new tasks."""
    old, ran_by_old = release("known")
    new, ran_by_new = release("known", "new")
    async with working(settings(), old) as leaving:
        await send(stream, names(20), type="new")
        await eventually(lambda: view.client.zcard(view.delayed), what="the old one to look")
        async with working(settings(), new):  # both at once, as in any rolling deploy
            looks = view.calls("zadd") + 20
            await eventually(lambda: ran_by_new or view.calls("zadd") >= looks)
            await leaving.stop(5)
            await eventually(lambda: len(ran_by_new) == 20)
            await view.drained()
    assert ran_by_new == Counter(names(20))
    assert not ran_by_old
    assert view.dead_letters() == []


async def test_a_retry_of_a_handler_that_the_old_release_lacks_waits_for_the_new_one(
    stream: Producer, settings: MakeSettings, view: View, quick_looks: None
) -> None:
    """chrisguidry/docket#437: the same for what the new release itself had put there."""
    old, ran_by_old = release("order")
    first = Handlers()
    tried: Counter[str] = Counter()

    @first.on("order", name="order-v2")
    async def try_once(delivery: Delivery[Message]) -> None:
        tried[delivery.id] += 1
        raise Retry(after=0.1)

    async with working(settings(), first) as worker:
        await send(stream, ["m0"], type="order")
        await eventually(lambda: tried)
        await worker.stop(5)
    async with working(settings(), old):
        looked = view.calls("zadd")
        await eventually(lambda: view.calls("zadd") >= looked + 2, what="two looks of the old one")
    new, ran_by_new = release("order", suffix="-v2")
    async with working(settings(), new):
        await eventually(lambda: ran_by_new)
        await view.drained()
    assert (ran_by_new, ran_by_old) == (Counter(["m0"]), Counter())


async def test_what_nobody_knows_is_neither_pending_for_ever_nor_gone(
    stream: Producer, settings: MakeSettings, view: View
) -> None:
    """taskiq-python/taskiq#569: a task that was not found stayed pending in limbo.

    Its release 0.13 and docket acknowledge it instead, and it is gone.
    """
    handlers, _ = release("known")
    async with working(settings(grace=0), handlers):
        await send(stream, ["m0"], type="new")
        await eventually(view.dead_letters)
        await view.drained()
    handlers, ran = release("new")
    async with working(settings(), handlers):
        found = [one.id for one in await dead_letters(stream)]
        assert await DeadLetters(stream.client, "main").replay(found) == 1
        await eventually(lambda: ran)
        await view.drained()
    assert ran == Counter(["m0"])


async def test_workers_that_are_replaced_every_few_messages_leave_none_behind(
    stream: Producer, settings: MakeSettings, view: View
) -> None:
    """taskiq-python/taskiq#556, #646: with --max-tasks-per-child tasks stay in the queue."""
    work = Work()
    sent = 0

    def is_done(count: int) -> bool:
        return sum(work.done.values()) >= count

    while sent < 150:
        async with working(settings(lease=LONG, concurrency=5), work.handlers) as worker:
            await send(stream, names(15, sent))
            sent += 15
            enough = sum(work.done.values()) + 5
            await eventually(functools.partial(is_done, enough))
            await worker.stop(5)
        assert view.pending() == 0
    async with working(settings(lease=LONG), work.handlers):
        await view.drained()
    assert work.began == work.done == Counter(names(150))


# --- the stream is cut or begun at the wrong place ------------------------------------------


async def test_what_came_before_the_first_worker_is_handled(
    stream: Producer, settings: MakeSettings, view: View
) -> None:
    """FastStream and taskiq-redis, in their source: the group begins at `$`, the new end."""
    await send(stream, names(5))
    work = Work()
    async with working(settings(), work.handlers):
        await view.drained()
    assert work.done == Counter(names(5))


async def test_trimming_waits_for_the_group_that_is_behind(
    stream: Producer, settings: MakeSettings, view: View, redis_client: redis.Redis, prefix: str,
    busy_janitor: None,
) -> None:  # fmt: skip
    """ChasquiMQ, taskiq-redis, FastStream: MAXLEN drops what nobody has read yet."""
    late = Consumer(stream.client, "late", "c1", dedup_window=3600)
    await late.open()
    await late.close()
    quick, slow = Work(), Work()
    async with working(settings(), quick.handlers):
        await send(stream, names(200))
        await view.drained()
        turns = view.calls("xtrim") + 5
        await eventually(lambda: view.calls("xtrim") >= turns, what="turns of the janitor")
    assert len(view.stored()) == 200
    async with working(settings(group="late"), slow.handlers):
        await View(redis_client, prefix, "late").drained()
        await eventually(lambda: not view.stored(), what="the stream to be trimmed")
    assert quick.done == slow.done == Counter(names(200))


# --- 200 before durable ---------------------------------------------------------------------


def receiver_env(server: Server, port: int, **env: str) -> dict[str, str]:
    given = {"PORT": str(port), "QSTASH_CURRENT_SIGNING_KEY": CURRENT_KEY}
    return environment(server, "t") | given | env


async def test_every_200_of_a_receiver_that_is_killed_is_in_redis(
    own_server: OwnServer, start_program: StartProgram
) -> None:
    """apache/iggy#3798: 200 meant "in this process's buffer", and a crash emptied that."""
    server, port = own_server(), free_port()
    receiver = start_program("receiver", env=receiver_env(server, port))
    receiver.wait_for('"receiving"')
    senders = Senders(f"http://127.0.0.1:{port}", 16)
    await senders.more(200, 300)
    receiver.kill()
    await senders.stop()
    with redis.Redis.from_url(server.url) as client:
        stored = set(View(client, "t").stored())
    assert len(senders.answered(200)) >= 300
    assert senders.answered(200) <= stored


async def test_no_200_is_given_for_what_redis_did_not_take(own_server: OwnServer) -> None:
    """argoproj/argo-events#3448 (fix #3449): 200 although the bus had not taken the event.

    frain-dev/convoy and Inngest answer 400, svix-bridge 500: faults that a sender may not repeat.
    """
    server = own_server(*AOF)
    configured = settings_for(server, durability="aof", qstash_current_signing_key=CURRENT_KEY)
    async with receiving(configured) as url:
        senders = Senders(url, 16)
        await senders.more(200, 200)
        server.kill()
        await senders.more(503, 50)
        server.start()
        await senders.more(200, 50)
        await senders.stop()
    with redis.Redis.from_url(server.url) as client:
        stored = set(View(client, "t").stored())
    assert senders.answered(200) <= stored
    assert senders.answered(200) | senders.answered(503) == set(senders.answers)


# --- the queue is down ----------------------------------------------------------------------


@pytest.mark.parametrize("away", ["killed", "frozen"])
async def test_a_delivery_refused_for_want_of_redis_is_accepted_when_it_is_repeated(
    own_server: OwnServer, away: str
) -> None:
    """Hookaido's changelog: a nonce spent before the queue took the message, so 401 for the retry.

    svix-bridge: a hung Redis blocks the receiver for good.
    """
    server = own_server()
    configured = settings_for(
        server, append_timeout=1.5, retry_after=7,
        qstash_current_signing_key=CURRENT_KEY,
    )  # fmt: skip
    given = order(1)
    work = Work()
    async with receiving(configured) as url, http_client() as http:
        if away == "killed":
            server.kill()
        else:
            server.signal(signal.SIGSTOP)
        refused = await post(http, url, given)
        assert (refused.status, refused.retry_after) == (503, "7")
        if away == "killed":
            server.start()
        else:
            server.signal(signal.SIGCONT)
        assert (await post(http, url, given)).status == 200
    with redis.Redis.from_url(server.url) as client:
        async with working(configured, work.handlers):
            await eventually(lambda: work.done)
            await View(client, "t").drained()
    assert work.done == Counter(["m1"])  # although a frozen Redis may have taken it twice


async def test_what_was_accepted_while_redis_was_away_is_handled_without_another_delivery(
    own_server: OwnServer, tmp_path: Path
) -> None:
    """nazarli-shabnam/clevis#439, #409: rows whose XADD had failed were kept and never re-sent.

    Vexa-ai/vexa#520: 75 minutes of an outage dropped, for the retries lay in the same Redis.
    """
    server = own_server()
    configured = settings_for(
        server, append_timeout=1.5, spool=tmp_path / "spool.db",
        qstash_current_signing_key=CURRENT_KEY,
    )  # fmt: skip
    work = Work()
    async with receiving(configured) as url, http_client() as http:
        server.kill()
        assert [(await post(http, url, order(n))).status for n in range(5)] == [200] * 5
        server.start()
        async with working(configured, work.handlers):
            await eventually(lambda: len(work.done) == 5, timeout=30)
            with redis.Redis.from_url(server.url) as client:
                await View(client, "t").drained()
    assert work.done == Counter(names(5))


# --- fails open -----------------------------------------------------------------------------


@pytest.mark.parametrize("spools", [False, True], ids=["refusing", "spooling"])
async def test_what_does_not_verify_is_refused_while_redis_is_away_as_well(
    own_server: OwnServer, tmp_path: Path, spools: bool
) -> None:
    """frain-dev/convoy#2656: what guards the door must not open it where its store is gone."""
    server = own_server()
    spool = tmp_path / "spool.db"
    configured = settings_for(
        server, append_timeout=1.5,
        spool=spool if spools else None, qstash_current_signing_key=CURRENT_KEY,
    )  # fmt: skip
    genuine = order(1)
    forged = genuine._replace(body=genuine.body.replace(b"1", b"2"))
    async with receiving(configured) as url, http_client() as http:
        server.kill()
        for given in (forged, order(2, signed=False)):
            assert (await post(http, url, given)).status == 401
        assert not spool.with_name("spool.db.active").exists()
        assert (await post(http, url, genuine)).status == (200 if spools else 503)
        server.start()
        if spools:
            await eventually(lambda: not spool.with_name("spool.db.active").exists(), timeout=30)
    with redis.Redis.from_url(server.url) as client:
        assert View(client, "t").stored() == (["m1"] if spools else [])


SECRETS = [
    {},
    {"QSTASH_CURRENT_SIGNING_KEY": ""},
    {"MARBLE_WEBHOOK_SECRET": "  "},
    {"QSTASH_CURRENT_SIGNING_KEY": CURRENT_KEY, "MARBLE_WEBHOOK_SECRET": ""},
]


@pytest.mark.parametrize("env", SECRETS, ids=["none", "empty", "blank", "one of two empty"])
def test_a_source_without_a_usable_secret_does_not_start(
    start_program: StartProgram, env: dict[str, str]
) -> None:
    """n8n CVE-2026-54308: without a signing secret the trigger took whatever was posted.

    svix-bridge's default is no verification, webhookx without a plugin accepts all, Hookaido took
    an empty HMAC block for an open door (GHSA-5v3w-hjh4-4q9q).
    """
    port = free_port()
    redis_url = "redis://127.0.0.1:1/0"
    program = start_program("receiver", env={"REDIS_URL": redis_url, "PORT": str(port), **env})
    assert program.wait() == 2
    assert '"receiving"' not in program.log
