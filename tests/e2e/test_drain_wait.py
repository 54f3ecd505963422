"""A receiver that is asked to stop says so first, and goes on accepting deliveries for a while."""

from __future__ import annotations

import signal

import aiohttp
import pytest
import redis

from tests.e2e.line import Line

pytestmark = pytest.mark.one_server


async def test_a_receiver_denies_readiness_accepts_and_ends_with_the_second_signal(
    line: Line, redis_client: redis.Redis
) -> None:
    receiver = line.receiver(HOOKMILL_DRAIN="20", HOOKMILL_SHUTDOWN="30")
    receiver.signal(signal.SIGTERM)
    receiver.wait_for("still accepting deliveries")
    async with aiohttp.ClientSession() as session, session.get(line.base + "/readyz") as answer:
        assert answer.status == 503
        assert (await answer.json())["error"] == "stopping"
    assert await line.send([line.order(1)]) == {200: 1}
    receiver.signal(signal.SIGTERM)
    assert receiver.wait() == 0
    assert receiver.log.count("still accepting deliveries") == 1
    assert '"stopped"' in receiver.log
    line.worker()
    line.wait_for_handled(1)
    line.wait_for_drained(redis_client)


def test_without_the_setting_it_stops_at_once(line: Line) -> None:
    receiver = line.receiver()
    assert receiver.stop() == 0
    assert "still accepting deliveries" not in receiver.log
