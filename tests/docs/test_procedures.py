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
    with redis.Redis.from_url(server.url) as client:
        for group in ("main", "analytics"):
            program = start_program(
                "worker", "hookmill.dev.samples:handlers", "--group", group, env=env, name=group
            )
            program.wait_for('"working"')
            wait_until(lambda group=group: group in groups(client, keys), what=f"group {group}")  # type: ignore[misc] # the lambda binds its group
            if group == "analytics":
                program.stop()
        # No message of ours: the workers of `main` give it up, and nobody runs `analytics`.
        client.xadd(keys.stream, {"version": "0"})
        wait_until(lambda: client.xlen(keys.of_group("main").dead), what="the dead letter")
        assert client.xlen(keys.stream) == 1

        for name in ("analytics", "analytics:bell"):
            assert f"XGROUP DESTROY 'hookmill:{{0}}:stream' {name}" in page
            assert client.xgroup_destroy("hookmill:{0}:stream", name) == 1
        assert "--pattern 'hookmill:{0}:analytics:*'" in page
        for key in client.scan_iter("hookmill:{0}:analytics:*"):
            client.delete(key)

        wait_until(lambda: client.xlen(keys.stream) == 0, what="the stream to be trimmed")
        assert groups(client, keys) == {"main", "main:bell"}
        assert list(client.scan_iter("hookmill:{0}:analytics*")) == []


def groups(client: redis.Redis, keys: Keys) -> set[str]:
    try:
        return {row["name"].decode() for row in client.xinfo_groups(keys.stream)}
    except redis.ResponseError:  # there is no stream yet
        return set()
