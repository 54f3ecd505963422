"""Messages of event types that no handler knows, beside those that are handled."""

from __future__ import annotations

import json
import time
from pathlib import Path

import redis

from tests.e2e.line import Line, settle_down, unfinished
from tests.support import Stream, message, wait_until

UNKNOWN = ("created", "labelled", "renamed", "deleted")


async def test_unknown_types_do_not_hold_up_the_messages_of_their_ordering_key(
    line: Line, redis_client: redis.Redis, prefix: str
) -> None:
    stream = Stream(line.env["REDIS_URL"], prefix)
    worker = line.worker(HOOKMILL_GRACE="3")
    began = time.monotonic()
    await stream.append(
        [message(id=name, type=f"repo.{name}", key="repo-7") for name in UNKNOWN]
        + [message(id=f"push-{n}", type="post.pushed", key="repo-7") for n in range(3)]
    )
    line.wait_for_handled(3)
    assert time.monotonic() - began < 3  # none waited for a grace period
    ended = [row.split()[1] for row in line.ledger.read_text().splitlines() if row[:3] == "end"]
    assert ended == ["push-0", "push-1", "push-2"]

    # They become dead letters as before, one grace period after they came.
    wait_until(lambda: len(dead_letters(line)) == len(UNKNOWN), what="the dead letters")
    assert {row["reason"] for row in dead_letters(line)} == {"unhandled"}
    assert {row["message_id"] for row in dead_letters(line)} == set(UNKNOWN)
    assert not unfinished(redis_client, prefix, 1, trimmed=False)
    assert "dropped 4 of 4" in line.hookmill("dead", "drop", "--all", "--yes")
    assert worker.stop() == 0
    await stream.close()


async def test_grace_counts_from_the_first_message_of_a_type_and_anew_after_a_deploy_that_knew_it(
    line: Line, redis_client: redis.Redis, prefix: str, tmp_path: Path
) -> None:
    stream = Stream(line.env["REDIS_URL"], prefix)
    grace = {"HOOKMILL_GRACE": "3"}
    old = line.worker(**grace)

    async def comes(name: str) -> None:
        await stream.append([message(id=name, type="repo.created")])

    def waited(name: str) -> int:
        return sum("will run again" in row and f'"{name}"' in row for row in old.log.splitlines())

    await comes("first")
    wait_until(lambda: dead(line) == ["first"], what="the first dead letter")
    assert waited("first")
    await comes("second")  # the type has had its grace period
    wait_until(lambda: dead(line) == ["first", "second"], what="the second dead letter")
    assert not waited("second")

    # A release that knows the type, beside the one that does not.
    source = tmp_path / "ledger.py"
    before = source.read_text()
    source.write_text(before.replace('@handlers.on("post.*")', '@handlers.on("repo.*")'))
    new = line.worker(**grace)
    settle_down(1.5)  # the old one has asked again who lives
    for number in range(10):
        await comes(f"new-{number}")
    line.wait_for_handled(10)
    assert dead(line) == ["first", "second"]

    # It is rolled back. What comes now may wait for its return.
    assert new.stop() == 0
    settle_down(1.5)
    await comes("third")
    wait_until(lambda: len(dead(line)) == 3, what="the third dead letter")
    assert waited("third")
    assert "dropped 3 of 3" in line.hookmill("dead", "drop", "--all", "--yes")
    assert old.stop() == 0
    await stream.close()


def dead(line: Line) -> list[str]:
    return [row["message_id"] for row in dead_letters(line)]


def dead_letters(line: Line) -> list[dict[str, str]]:
    return [json.loads(row) for row in line.hookmill("dead", "list", "--json").splitlines()]
