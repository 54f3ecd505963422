"""Steps of the guides that an operator does with tools that the tests do not have."""

from __future__ import annotations

from collections.abc import Callable

import redis

from hookmill.stream.keys import Keys
from tests.docs.pages import DOCS
from tests.support import Program, Server, wait_until

ENV = {"HOOKMILL_GRACE": "0", "MARBLE_WEBHOOK_SECRET": "an_example_0123456789"}


def test_removing_a_group_as_the_guide_says_lets_the_stream_be_trimmed(
    start_program: Callable[..., Program], own_server: Callable[..., Server]
) -> None:
    page = (DOCS / "how-to" / "remove-a-group.md").read_text()
    server = own_server()
    env = {**ENV, "REDIS_URL": server.url, "PORT": "0"}
    keys = Keys("hookmill")
    add = ("group", "add", "analytics", "--from", "beginning")
    assert start_program(*add, env=env, name="add").wait() == 0
    with redis.Redis.from_url(server.url) as client:
        main = start_program("worker", "hookmill.dev.samples:handlers", env=env, name="main")
        main.wait_for('"working"')
        # No message of ours: the workers of `main` give it up, and nobody runs `analytics`.
        client.xadd(keys.stream, {"version": "0"})
        wait_until(lambda: client.xlen(keys.of_group("main").dead), what="the dead letter")
        assert client.xlen(keys.stream) == 1

        assert "\n   hookmill group drop analytics\n" in page
        drop = start_program("group", "drop", "analytics", "--yes", env=env, name="drop")
        assert drop.wait() == 0
        assert "with its messages: 1 waiting" in drop.log

        wait_until(lambda: client.xlen(keys.stream) == 0, what="the stream to be trimmed")
        assert groups(client, keys) == {"main"}
        assert list(client.scan_iter("hookmill:{0}:analytics*")) == []


def groups(client: redis.Redis, keys: Keys) -> set[str]:
    try:
        return {row["name"].decode() for row in client.xinfo_groups(keys.stream)}
    except redis.ResponseError:  # there is no stream yet
        return set()
