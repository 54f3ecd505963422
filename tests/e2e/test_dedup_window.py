"""Another dedup window, deployed while messages come: no message ID is forgotten."""

from __future__ import annotations

import redis

from tests.e2e.line import Line, settle_down, unfinished
from tests.support import wait_until


async def test_while_another_window_is_deployed_no_message_is_handled_twice(
    line: Line, redis_client: redis.Redis
) -> None:
    receiver, leaving = line.receiver(), line.worker(HOOKMILL_DEDUP_WINDOW="86400")
    posts = [line.order(n) for n in range(300)]
    assert await line.send(posts[:100]) == {200: 100}
    line.wait_for_handled(100)

    # Side by side, and each of them takes what the other one has handled.
    coming = line.worker(HOOKMILL_DEDUP_WINDOW="7200")
    assert await line.send(posts[:200] * 2) == {200: 400}
    line.wait_for_handled(200)
    assert leaving.stop() == 0
    assert await line.send(posts * 2) == {200: 600}
    line.wait_for_handled(300)
    wait_for_all(line, redis_client)

    # And back to the old one.
    coming.stop()
    back = line.worker(HOOKMILL_DEDUP_WINDOW="86400")
    assert await line.send(posts) == {200: 300}
    wait_for_all(line, redis_client)
    settle_down()
    assert [back.stop(), receiver.stop()] == [0, 0]
    assert line.noted("begin") == {post.message_id: 1 for post in posts}


def wait_for_all(line: Line, client: redis.Redis) -> None:
    wait_until(
        lambda: not unfinished_of(line, client), timeout=30, what="every delivery to be finished"
    )


def unfinished_of(line: Line, client: redis.Redis) -> int:
    """How many entries are unread, pending or requeued."""
    prefix = line.env["HOOKMILL_PREFIX"]
    (group,) = (
        one for one in client.xinfo_groups(f"{prefix}:{{0}}:stream") if one["name"] == b"main"
    )
    return int(group["lag"]) + unfinished(client, prefix, 1, trimmed=False)
