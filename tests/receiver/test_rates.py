"""What a receiver adds to the history of rates."""

from __future__ import annotations

import pytest

from hookmill.admin.rates import RateReader, received_by_source, refused_by_reason
from hookmill.stream.producer import Producer
from hookmill.stream.rates import HOUR
from receiver.metrics import Metrics
from receiver.rates import ReceiverRates

pytestmark = pytest.mark.one_server


async def test_it_adds_what_came_since_the_last_time_and_the_rest_at_its_end(
    stream: Producer,
) -> None:
    metrics = Metrics()
    rates = ReceiverRates(stream.client, lambda: metrics.outcomes)
    metrics.count("stripe", "accepted")
    await rates.add()
    await rates.add()
    metrics.count("stripe", "accepted")
    metrics.count("stripe", "body_mismatch")
    rates.start()
    await rates.stop()
    seen = await RateReader().read(stream.client, HOUR)
    assert seen.total(received_by_source) == {"stripe": 2}
    assert seen.total(refused_by_reason) == {"stripe: body_mismatch": 1}
