"""A worker's lease thread sees that its stacks are asked for, and answers once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest
import redis

from hookmill.stream.consumer import Consumer
from hookmill.stream.leases import BlockingLeases
from hookmill.stream.producer import Producer
from hookmill.stream.stacks import StackRequests
from tests.stream.toolkit import OpenGroup

pytestmark = pytest.mark.one_server


@pytest.fixture
async def group(open_group: OpenGroup) -> Consumer:
    return await open_group()


@pytest.fixture
def leases(group: Consumer) -> Iterator[BlockingLeases]:
    with closing(group.leases()) as opened:
        yield opened


@pytest.fixture
def requests(stream: Producer, group: Consumer) -> StackRequests:
    return StackRequests(stream.client, group.name)


async def test_who_is_asked_sees_it_with_its_next_renewal_and_answers_once(
    requests: StackRequests,
    leases: BlockingLeases,
    group: Consumer,
    redis_client: redis.Redis,
) -> None:
    leases.renew([])
    assert leases.request == b""
    assert await requests.read(group.consumer) == (False, None)
    await requests.ask("somebody else")
    await requests.ask(group.consumer)
    assert await requests.read(group.consumer) == (True, None)
    assert leases.renew([]) == []
    assert leases.request != b""
    leases.say_stacks("thread MainThread")
    is_asked, said = await requests.read(group.consumer)
    assert not is_asked
    assert said is not None
    assert (said.text, said.at_ms > 0) == ("thread MainThread", True)
    leases.renew([])
    assert leases.request == b""
    assert await requests.read("somebody else") == (True, None)
    assert 0 < redis_client.pttl(group.partitions[0].stacks) <= 600_000
    assert redis_client.delete(group.partitions[0].stacks) == 1


async def test_an_answer_to_an_earlier_request_is_none_to_this_one(
    requests: StackRequests, leases: BlockingLeases, group: Consumer, redis_client: redis.Redis
) -> None:
    await requests.ask(group.consumer)
    leases.look_for_request()
    await requests.ask(group.consumer)
    leases.say_stacks("too late")
    assert await requests.read(group.consumer) == (True, None)
    leases.look_for_request()
    leases.say_stacks("in time")
    _, said = await requests.read(group.consumer)
    assert said is not None
    assert said.text == "in time"
    redis_client.delete(group.partitions[0].stacks)


async def test_however_many_are_asked_little_is_kept(
    requests: StackRequests, group: Consumer, redis_client: redis.Redis
) -> None:
    for number in range(100):
        await requests.ask(f"worker {number}")
    assert redis_client.hlen(group.partitions[0].stacks) <= 32
    assert (await requests.read("worker 99"))[0]
    redis_client.delete(group.partitions[0].stacks)
