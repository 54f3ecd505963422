"""Another dedup window, deployed while messages come: no message ID is forgotten."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
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


@pytest.mark.one_server
async def test_while_the_window_of_a_source_is_deployed_no_message_is_handled_twice(
    line: Line, redis_client: redis.Redis, tmp_path: Path
) -> None:
    worker = line.worker()
    posts = [line.post_published(n) for n in range(200)]
    windows = (None, 600, 1200)
    for number, window in enumerate(windows):
        table = "" if window is None else f"[sources.marble]\ndedup_window = {window}\n"
        (tmp_path / "hookmill.toml").write_text(table)
        receiver = line.receiver()
        receiver.wait_for("another wire version")
        # Some for the first time, and before them what came under the other windows.
        some = posts[: 50 * (number + 1)]
        assert await line.send(some * 2) == {200: 2 * len(some)}
        line.wait_for_handled(len(some))
        wait_for_all(line, redis_client)
        assert receiver.stop() == 0
    sizes: Any = redis_client.hgetall(f"{line.env['HOOKMILL_PREFIX']}:{{0}}:main:owners")
    apart = {name.decode().partition("s")[2] for name in sizes if name.endswith(b":size")}
    assert apart >= {"600:size", "1200:size"}
    settle_down()
    assert worker.stop() == 0
    assert line.noted("begin") == {post.message_id: 1 for post in posts[:150]}


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
