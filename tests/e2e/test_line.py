"""The whole line with real processes: requests, receiver, stream, workers, handlers, ledger."""

from __future__ import annotations

import random
import signal

import redis

from tests.e2e.line import Line, settle_down
from tests.support import Program, wait_until


async def test_five_thousand_deliveries_sent_twice_in_random_order_are_handled_exactly_once(
    line: Line, redis_client: redis.Redis
) -> None:
    posts = [line.order(n) for n in range(2_500)] + [line.post_published(n) for n in range(2_500)]
    twice = posts * 2
    random.Random(20261121).shuffle(twice)
    receiver = line.receiver()
    workers = [line.worker(), line.worker()]

    assert await line.send(twice) == {200: 10_000}
    line.wait_for_handled(5_000)
    line.wait_for_drained(redis_client)
    assert [program.stop() for program in (receiver, *workers)] == [0, 0, 0]

    assert line.noted() == {post.message_id: 1 for post in posts}
    # Both workers took part. Otherwise this would show nothing about two workers.
    assert len({row.split()[3] for row in line.ledger.read_text().splitlines()}) == 2


async def test_the_messages_of_a_killed_worker_are_handled_by_the_other(
    line: Line, redis_client: redis.Redis
) -> None:
    line.receiver()
    env = {"HOOKMILL_LEASE": "2", "LEDGER_PAUSE": "0.05", "HOOKMILL_CONCURRENCY": "20"}
    # The victim never finishes a message.
    victim, survivor = line.worker(**env | {"LEDGER_PAUSE": "600"}), line.worker(**env)

    assert await line.send(line.order(n) for n in range(1_500)) == {200: 1_500}
    line.wait_for_handled(300)
    wait_until(lambda: begun_by(victim, line) == 20, what="the victim to run as many as it may")
    victim.kill()
    line.wait_for_handled(1_500)
    line.wait_for_drained(redis_client)
    assert survivor.stop() == 0

    ended, begun = line.noted("end"), line.noted("begin")
    assert set(ended) == {f"msg_{n}" for n in range(1_500)}
    # Only the messages that the victim was running began twice: as many as it may run at once.
    assert sum(count - 1 for count in begun.values()) == 20
    assert "took over from a silent worker" in survivor.log


def begun_by(worker: Program, line: Line) -> int:
    rows = (row.split() for row in line.ledger.read_text().splitlines())
    return sum(what == "begin" and int(pid) == worker.pid for what, _, _, pid, _ in rows)


async def test_no_message_is_handled_twice_when_a_worker_is_asked_to_stop(
    line: Line, redis_client: redis.Redis
) -> None:
    line.receiver()
    env = {"LEDGER_PAUSE": "0.05", "HOOKMILL_CONCURRENCY": "20"}
    leaving, staying = line.worker(**env), line.worker(**env)

    assert await line.send(line.order(n) for n in range(1_500)) == {200: 1_500}
    line.wait_for_handled(300)
    assert leaving.stop() == 0
    line.wait_for_handled(1_500)
    line.wait_for_drained(redis_client)
    assert staying.stop() == 0
    settle_down()

    assert line.noted("begin") == {f"msg_{n}": 1 for n in range(1_500)}
    assert line.noted("end") == line.noted("begin")


async def test_a_message_that_runs_beyond_the_shutdown_deadline_is_requeued_for_another_worker(
    line: Line, redis_client: redis.Redis
) -> None:
    line.receiver()
    leaving = line.worker(LEDGER_PAUSE="60", HOOKMILL_SHUTDOWN="0.2")
    await line.send([line.order(1)])

    wait_until(lambda: line.noted("begin"), what="the handler to begin")
    assert leaving.stop() == 0

    # The lease is a minute, so a message can be handled this soon only if it was requeued.
    staying = line.worker()
    line.wait_for_handled(1, timeout=30)
    line.wait_for_drained(redis_client)
    assert staying.stop() == 0


async def test_a_forged_delivery_leaves_nothing_behind(
    line: Line, redis_client: redis.Redis
) -> None:
    receiver = line.receiver()
    genuine = line.order(1)
    forged = genuine._replace(body=genuine.body.replace(b"1", b"2"))
    assert await line.send([forged]) == {401: 1}
    assert not redis_client.keys(f"{line.env['HOOKMILL_PREFIX']}:*")
    assert receiver.stop() == 0
    assert receiver.log.count('"refused"') == 1
    assert "Traceback" not in receiver.log


async def test_ctrl_c_ends_a_worker_like_sigterm_does(line: Line) -> None:
    worker = line.worker()
    worker.signal(signal.SIGINT)
    assert worker.wait() == 0
