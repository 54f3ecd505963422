"""`hookmill replay` with real programs: beside live traffic, while a worker is killed."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
import redis

from hookmill.message import Message
from hookmill.stream.producer import Producer
from tests.e2e.line import Line, unfinished
from tests.support import Program, message, wait_until

HANDLED, DEAD, WAITING, LIVE = 2_000, 10, 20, 300
CONCURRENCY = 20


def orders(name: str, count: int, kind: str = "order.paid", body: bytes = b"") -> list[Message]:
    return [
        message(
            body or b'{"type":"%s","order_id":"A","amount":%d}' % (kind.encode(), n),
            id=f"{name}_{n}",
            type=kind,
        )
        for n in range(count)
    ]


@pytest.mark.one_server
async def test_each_handled_message_runs_once_more_beside_live_traffic_and_a_killed_worker(
    line: Line,
    stream: Producer,
    redis_client: redis.Redis,
    start_program: Callable[..., Program],
) -> None:
    env = {"HOOKMILL_LEASE": "2", "HOOKMILL_RETENTION": "3600", "HOOKMILL_GRACE": "3600"}
    env |= {"HOOKMILL_CONCURRENCY": str(CONCURRENCY), "LEDGER_PAUSE": "0.005"}
    victim, survivor = line.worker(**env), line.worker(**env)
    await stream.append(orders("done", HANDLED))
    await stream.append(orders("dead", DEAD, body=b'{"type":"order.paid"}'))
    await stream.append(orders("wait", WAITING, kind="nobody.knows"))
    line.wait_for_handled(HANDLED)
    keys = stream.partitions[0].of_group("main")
    wait_until(
        lambda: (redis_client.xlen(keys.dead), redis_client.zcard(keys.delayed)) == (DEAD, WAITING),
        what="dead letters and delayed messages",
    )

    replay = start_program("replay", "--all", "--yes", "--json", env=line.env)
    wait_until(lambda: sum(line.noted("begin").values()) > HANDLED + 200, what="some to run again")
    await stream.append(orders("live", LIVE))
    victim.kill()

    assert replay.wait(60) == 0
    result = json.loads(replay.log.splitlines()[-1])
    assert (result["replayed"], result["unfinished"]) == (HANDLED, DEAD + WAITING)
    wait_until(
        lambda: (
            len(line.noted()) == HANDLED + LIVE
            and unfinished(redis_client, stream_prefix(stream), 1, trimmed=False) == WAITING
        ),
        timeout=60,
        what="all to be handled",
    )
    assert survivor.stop() == 0

    ended = line.noted()
    assert {name for name in ended if name.startswith("live")} == {f"live_{n}" for n in range(LIVE)}
    again = [ended[f"done_{n}"] - 1 for n in range(HANDLED)]
    assert min(again) == 1
    # What the killed worker held runs once more, and may have run to its end before.
    assert sum(again) - HANDLED + sum(n - 1 for n in live(ended)) <= CONCURRENCY
    assert not [name for name in ended if name.startswith(("dead", "wait"))]
    assert unfinished(redis_client, stream_prefix(stream), 1, trimmed=False) == WAITING
    assert redis_client.xlen(keys.dead) == DEAD
    redis_client.delete(keys.dead, keys.delayed, keys.delayed_entries, keys.again)


def live(ended: dict[str, int]) -> list[int]:
    return [number for name, number in ended.items() if name.startswith("live")]


def stream_prefix(stream: Producer) -> str:
    return stream.partitions[0].base.rpartition(":")[0]
