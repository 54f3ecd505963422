"""Who can be asked for its stacks, and what is recorded of it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import redis

from hookmill.admin import audit, stacks
from hookmill.admin.audit import Operator
from hookmill.config.settings import Settings
from hookmill.stream.facts import Heartbeat
from hookmill.stream.heartbeats import Heartbeats
from hookmill.stream.producer import Producer
from tests.stream.toolkit import OpenGroup

pytestmark = pytest.mark.one_server


async def test_only_a_worker_that_can_answer_is_asked(
    settings: Callable[..., Settings],
    stream: Producer,
    open_group: OpenGroup,
    redis_client: redis.Redis,
) -> None:
    group, client = await open_group(), stream.client
    beats = Heartbeats(client, "main")
    await beats.write(Heartbeat(name="new", lease=30, can=("stacks",)))
    await beats.write(Heartbeat(name="old", lease=30, can=("pause",)))
    ada = Operator("Ada", "it is slow")
    for name, text in (("none", "has no worker 'none'.* are: new, old"), ("old", "SIGUSR1")):
        with pytest.raises(stacks.StacksRefusedError, match=text):
            await stacks.ask(settings(), name, ada, client=client)
    redis_client.xgroup_createconsumer(group.partitions[0].stream, "main", group.consumer)
    # Without a heartbeat and without a lease number it is one of 0.1; with one it may be blocked.
    with pytest.raises(stacks.StacksRefusedError, match="SIGUSR1"):
        await stacks.ask(settings(), group.consumer, ada, client=client)
    redis_client.hset(group.partitions[0].lease_numbers, group.consumer, 1)
    assert await stacks.ask(settings(lease=60), group.consumer, ada, client=client) == 25
    assert await stacks.ask(settings(lease=60), "new", ada, client=client) == 15
    done = [one async for one in audit.listed(settings())]
    assert [(one.who, one.action, one.details["worker"], one.why) for one in done] == [
        ("Ada", "stacks", "new", "it is slow"),
        ("Ada", "stacks", group.consumer, "it is slow"),
    ]
    keys = group.partitions[0]
    redis_client.delete(keys.stacks, keys.lease_numbers, keys.heartbeats, keys.heartbeat_times)
