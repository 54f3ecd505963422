"""Messages of event types that no handler knows, beside those that are handled."""

from __future__ import annotations

import json
import time

import redis

from tests.e2e.line import Line, unfinished
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


def dead_letters(line: Line) -> list[dict[str, str]]:
    return [json.loads(row) for row in line.hookmill("dead", "list", "--json").splitlines()]
