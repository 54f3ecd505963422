"""The whole line with several partitions, and programs with another number of partitions."""

from __future__ import annotations

import json
import random

import pytest
import redis

from hookmill.stream.keys import Keys
from tests.e2e.line import Line, unfinished
from tests.support import wait_until

PARTITIONS = 3


@pytest.fixture
def line(line: Line) -> Line:
    line.env["HOOKMILL_PARTITIONS"] = str(PARTITIONS)
    return line


def hookmill(line: Line, *words: str) -> list[str]:
    """Run a command without HOOKMILL_PARTITIONS. Return the lines that it prints."""
    return line.hookmill(*words, without="HOOKMILL_PARTITIONS").splitlines()


async def test_deliveries_sent_twice_over_three_partitions_are_handled_exactly_once(
    line: Line, redis_client: redis.Redis
) -> None:
    posts = [line.order(n) for n in range(500)] + [line.post_published(n) for n in range(500)]
    twice = posts * 2
    random.Random(20261121).shuffle(twice)
    receiver = line.receiver()
    workers = [line.worker(HOOKMILL_RETENTION="600") for _ in range(2)]

    assert await line.send(twice) == {200: 2_000}
    line.wait_for_handled(1_000)
    prefix = line.env["HOOKMILL_PREFIX"]
    wait_until(lambda: not unfinished(redis_client, prefix, PARTITIONS, trimmed=False))
    lengths = [redis_client.xlen(Keys(prefix, number).stream) for number in range(PARTITIONS)]
    assert sum(lengths) == 2_000
    assert min(lengths) > 500
    assert [program.stop() for program in (receiver, *workers)] == [0, 0, 0]
    assert line.noted() == {post.message_id: 1 for post in posts}


def test_a_program_with_another_number_of_partitions_does_not_start(line: Line) -> None:
    settled = line.worker()
    for command in (["worker", "ledger:handlers"], ["receiver"]):
        refused = line._start(*command, env=line.env | {"HOOKMILL_PARTITIONS": "2"})
        assert refused.wait() == 2
        (last,) = refused.log.splitlines()[-1:]
        assert last == (
            "hookmill: HOOKMILL_PARTITIONS is 2, but this stream was made with 3: set it to that, "
            "for receivers and workers alike"
        )
        assert "Traceback" not in refused.log
    assert settled.stop() == 0


async def test_status_and_dead_letters_are_shown_without_the_number_of_partitions(
    line: Line, redis_client: redis.Redis
) -> None:
    receiver, worker = line.receiver(), line.worker()
    wrong = [line.order(n, body=b'{"type":"order.paid","n":%d}' % n) for n in range(12)]
    assert await line.send(wrong) == {200: 12}
    keys = [Keys(line.env["HOOKMILL_PREFIX"], n).of_group("main").dead for n in range(PARTITIONS)]
    wait_until(lambda: sum(map(redis_client.xlen, keys)) == 12, what="twelve dead letters")
    assert all(map(redis_client.xlen, keys))

    (status,) = map(json.loads, hookmill(line, "status", "--json"))
    assert status["stream"]["partitions"] == PARTITIONS
    assert [group["dead"] for group in status["groups"]] == [12]
    letters = [json.loads(row) for row in hookmill(line, "dead", "list", "--json")]
    assert {letter["message_id"] for letter in letters} == {post.message_id for post in wrong}
    elsewhere = next(letter for letter in letters if "@" in letter["id"])
    (shown,) = map(json.loads, hookmill(line, "dead", "show", elsewhere["id"], "--json"))
    assert shown["message_id"] == elsewhere["message_id"]
    assert hookmill(line, "dead", "drop", "--all", "--yes") == ["dropped 12 of 12"]
    assert [receiver.stop(), worker.stop()] == [0, 0]
