"""Steps of the guides that an operator does with tools that the tests do not have."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import redis

from hookmill.stream.keys import Keys
from tests import limited
from tests.docs.pages import DOCS, ROOT, blocks_of
from tests.support import Program, Server, server_binaries, wait_until

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


@pytest.mark.parametrize("binary", server_binaries())
def test_the_users_that_are_made_as_the_guide_says_can_be_used_and_change_their_password(
    start_program: Callable[..., Program],
    own_server: Callable[..., Server],
    tmp_path: Path,
    binary: str,
) -> None:
    page = DOCS / "how-to" / "limit-redis-rights.md"
    (making,) = [block.text for block in blocks_of(page) if block.language == "sh"]
    acl = tmp_path / "users.acl"
    acl.write_text("user default on nopass ~* &* +@all\n")
    server = own_server("--aclfile", str(acl), "--save", "", binary=binary)
    with redis.Redis.from_url(server.url) as client:
        if limited.file_for(client) != "users.acl":
            making = making.replace("redis/users.acl", f"redis/{limited.file_for(client)}")
        (tmp_path / "deploy").symlink_to(ROOT / "deploy")
        subprocess.run(["/bin/sh", "-e", "-c", making], cwd=tmp_path, check=True)
        acl.write_text(acl.read_text() + "user default on nopass ~* &* +@all\n")
        client.acl_load()

        url_file = tmp_path / "redis-url"
        password = (tmp_path / "worker.password").read_text().strip()
        url_file.write_text(server.url.replace("://", f"://hookmill-worker:{password}@"))
        env = {**ENV, "REDIS_URL_FILE": str(url_file), "PORT": "0"}
        worker = start_program("worker", "hookmill.dev.samples:handlers", env=env)
        worker.wait_for('"working"')

        limited.ask(client, "ACL", "SETUSER", "hookmill-worker", ">the-new-one")
        url_file.write_text(server.url.replace("://", "://hookmill-worker:the-new-one@"))
        limited.ask(client, "ACL", "SETUSER", "hookmill-worker", f"<{password}")
        client.acl_save()
        client.client_kill_filter(_type="normal", skipme=True)
        client.xadd(Keys("hookmill").stream, {"version": "0"})
        wait_until(
            lambda: client.xlen(Keys("hookmill").of_group("main").dead), what="the dead letter"
        )
        assert worker.stop() == 0
        assert limited.refused_and_forgotten(client) == []


def groups(client: redis.Redis, keys: Keys) -> set[str]:
    try:
        return {row["name"].decode() for row in client.xinfo_groups(keys.stream)}
    except redis.ResponseError:  # there is no stream yet
        return set()
