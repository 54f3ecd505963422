"""The history of rates, from what programs add to what pages show."""

from __future__ import annotations

import pytest
import redis

from hookmill.admin import rates
from hookmill.admin.rates import RateReader, Rates
from hookmill.instrumentation.rates import written
from hookmill.stream.producer import Producer
from hookmill.stream.rates import DAY, HOUR, RateHistory

pytestmark = pytest.mark.one_server

COUNTS = {
    ("in", "stripe", "accepted"): 5,
    ("in", "github", "accepted"): 7,
    ("in", "stripe", "body_mismatch"): 2,
    ("in", "stripe", "answered"): 1,
    ("came", "stripe", "order.paid"): 4,
    ("out", "main", "send", "done"): 9,
    ("out", "main", "send", "retried"): 1,
    ("out", "other", "send", "done"): 100,
    ("ran", "main", "send", 4): 10,
    ("took", "main", "send", 12): 9,
    ("type", "main", "stripe", "order.paid"): 9,
}


async def test_what_programs_add_is_shown_for_the_hour_and_the_day(
    stream: Producer, redis_client: redis.Redis, prefix: str
) -> None:
    history = RateHistory(stream.client)
    for _ in range(2):
        await history.add(written(COUNTS))
    for span, steps in ((HOUR, 60), (DAY, 144)):
        seen = await RateReader().read(stream.client, span)
        assert len(seen.counts) == steps
        assert seen.total(rates.received_by_source) == {"github": 14, "stripe": 10}
        assert seen.total(rates.received_by_type) == {"stripe order.paid": 8}
        assert seen.total(rates.refused_by_reason) == {"stripe: body_mismatch": 4}
        assert seen.total(rates.finished_by_type) == {"stripe order.paid": 18}
        assert seen.total(rates.attempts_by_outcome) == {"done": 218, "retried": 2}
        (send,) = seen.handlers("main")
        assert (send.handler, send.attempts, send.failed) == ("send", 20, 2)
        assert send.percentiles(send.ran) == dict.fromkeys(("p50", "p95", "p99"), 0.016)
    for key in redis_client.scan_iter(f"{prefix}:*"):
        assert 0 < redis_client.pttl(key) <= 1000 * max(60 * 120, 600 * 150)


async def test_what_is_over_is_read_once(stream: Producer, redis_client: redis.Redis) -> None:
    reader = RateReader()
    await reader.read(stream.client, HOUR)
    before = _calls(redis_client)
    await reader.read(stream.client, HOUR)
    assert _calls(redis_client) - before <= 4


def test_the_largest_series_come_first() -> None:
    seen = Rates(60, 0, [{("in", "a", "accepted"): 1}, {("in", "b", "accepted"): 2}])
    assert seen.series(rates.received_by_source) == {"b": [0, 2], "a": [1, 0]}


def _calls(client: redis.Redis) -> int:
    return int(client.info("commandstats")["cmdstat_hgetall"]["calls"])
