"""A console whose user in Redis may only read shows every page, and the server refuses nothing."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import redis

from hookmill.console.app import PAGES
from tests import limited
from tests.console.conftest import OpenConsole
from tests.given_up import GiveUp
from tests.support import Server, message

pytestmark = pytest.mark.one_server


async def test_the_user_of_the_console_may_read_all_that_the_pages_show(
    console: OpenConsole,
    give_up: GiveUp,
    emptied: Callable[[], None],
    server: Server,
    prefix: str,
    redis_client: redis.Redis,
) -> None:
    await give_up(message(b'{"a": 1}', id="msg_1", source="shop"))
    limited.make_users(server.url, prefix)
    browser = await console(redis_url=limited.as_role("console", server.url))
    searches = (
        "/messages?where=a%3D1",
        "/messages?state=dead",
        "/messages?id=msg_1&source=shop",
        "/dead?where=a%3D1",
    )
    for path in (*(path for path in PAGES if "{" not in path), *searches):
        assert (await browser.get(path)).status == 200, path
    assert limited.refused_and_forgotten(redis_client) == []
    emptied()
    for role in (*limited.ROLES, "all"):
        redis_client.acl_deluser(f"hookmill-{role}")
