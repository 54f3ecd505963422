"""A fleet of mixed releases, with real processes: receivers write only what every worker reads, and
what an older worker cannot read waits for a newer one.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis

from hookmill.message import PACKED_VERSION
from hookmill.stream.producer import Producer
from tests.e2e.line import Line
from tests.support import Program, message, wait_until

KEPT = {"HOOKMILL_RETENTION": "3600"}
"""The finished messages stay in the stream, for a look at their versions."""


@pytest.fixture
def older_worker(
    line: Line, start_program: Callable[..., Program], tmp_path: Path
) -> Callable[[], Program]:
    def start() -> Program:
        shutil.copy(Path(__file__).with_name("older_worker.py"), tmp_path / "older_worker.py")
        program = start_program("worker", "older_worker:handlers", env=line.env | KEPT)
        program.wait_for('"working"')
        return program

    return start


def versions(client: redis.Redis, stream: Producer) -> list[int]:
    """The versions of the messages in the stream, in their order."""
    entries: Any = client.xrange(stream.partitions[0].stream)
    return [3 if b"v3" in fields else int(fields[b"version"]) for _, fields in entries]


async def test_version_3_is_written_only_while_every_worker_reads_it(
    line: Line, stream: Producer, redis_client: redis.Redis, older_worker: Callable[[], Program]
) -> None:
    def is_written(version: int) -> Callable[[], bool]:
        return lambda: (
            receiver.log.rfind(f'"version":{version}')
            > receiver.log.rfind(f'"version":{5 - version}')
        )

    receiver = line.receiver()
    await line.send([line.order(1)])  # no worker runs
    newer = line.worker(**KEPT)
    wait_until(is_written(3))
    await line.send([line.order(2)])
    older = older_worker()
    wait_until(is_written(2))
    await line.send([line.order(3)])
    older.stop()
    wait_until(is_written(3))
    await line.send([line.order(1)])  # a duplicate, in another version
    await line.send([line.order(4)])

    line.wait_for_handled(4)
    newer.stop()
    assert line.noted() == {f"msg_{number}": 1 for number in range(1, 5)}
    assert sorted(versions(redis_client, stream)) == [2, 2, 3, 3, 3]


async def test_what_an_older_worker_cannot_read_waits_for_a_newer_one_in_order_and_runs_once(
    line: Line, stream: Producer, redis_client: redis.Redis, older_worker: Callable[[], Program]
) -> None:
    older = older_worker()
    sent = [
        message(
            b'{"type":"order.paid","order_id":"A","amount":1}',
            id=f"m{number}", type="order.paid", key=f"{number % 2}",
        )
        for number in range(10)
    ]  # fmt: skip
    for number, one in enumerate(sent):
        await stream.append([one], PACKED_VERSION if number % 3 else 2)
    await stream.append(sent, 2)  # all of them a second time
    older.wait_for("unknown_wire_version")
    assert line.noted().total() < len(sent)

    newer = line.worker()
    older.stop()  # as in a deploy
    line.wait_for_handled(len(sent), timeout=120)
    line.wait_for_drained(redis_client)
    newer.stop()
    assert line.noted() == {one.id: 1 for one in sent}
    ended = [words.split()[1] for words in line.ledger.read_text().splitlines() if "end" in words]
    for key in (0, 1):
        in_order = [one.id for number, one in enumerate(sent) if number % 2 == key]
        assert [one for one in ended if one in in_order] == in_order
    assert redis_client.xlen(stream.partitions[0].of_group("main").dead) == 0
