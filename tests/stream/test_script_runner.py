"""Scripts are loaded where they are missing, and run while Redis is full."""

from __future__ import annotations

from typing import Any

import pytest
import redis

from hookmill.errors import StreamUnavailableError
from hookmill.stream import script_runner
from hookmill.stream.entries import Settlement
from hookmill.stream.upkeep import Upkeep
from tests.stream.toolkit import (
    OwnServer,
    again,
    dead,
    ids,
    opened,
    release,
    settle_all,
    written,
)
from tests.support import (
    eventually,
    message,
    server_binaries,
)


@pytest.mark.parametrize("has_flags", [True, False], ids=["script flags", "as before 7.0"])
@pytest.mark.parametrize("binary", list(server_binaries()))
async def test_a_full_redis_refuses_appends_and_can_still_be_drained(
    own_server: OwnServer, monkeypatch: pytest.MonkeyPatch, binary: str, has_flags: bool
) -> None:
    if not has_flags:  # what a server says that does not know them
        monkeypatch.setattr(script_runner, "_ALLOW_OOM", "#!lua flags=none-that-is-known\n")
    server = own_server(binary=binary)
    async with opened(server) as (stream, group):
        with redis.Redis.from_url(server.url) as client:
            await group.open()
            await stream.append([message(id=name) for name in ("again", "dead", "late", "new")])
            repeated, buried, late = (await group.take(3)).entries
            used: Any = client.info("memory")
            client.config_set("maxmemory-policy", "noeviction")
            client.config_set("maxmemory", used["used_memory"] // 2)

            for ask in (lambda: stream.append([message()]), stream.probe):
                with pytest.raises(StreamUnavailableError, match="maxmemory"):
                    await ask()
            assert client.xlen(stream.partitions[0].stream) == 4
            # A worker that starts now can open the group as well.
            stream.client._is_agreed = False
            assert await group.open() == 0
            await group.settle(
                [
                    Settlement(repeated.ref, (again(repeated),)),
                    Settlement(buried.ref, (dead(buried),)),
                    Settlement(late.ref, (again(late, delay_ms=1),)),
                ]
            )
            await eventually(lambda: release(group))
            taken = await group.take(5)
            assert ids(taken.entries) == ["again", "late", "new"]
            await settle_all(group, *taken.entries)
            assert await group.open() == 0
            assert await Upkeep(stream.client, "main").trim(0) == 4
            assert written(client, group) == (0, 0, 0, 1)
