"""What a receiver adds to the history of rates."""

from __future__ import annotations

import pytest

from hookmill.admin.rates import RateReader, received_by_source, refused_by_reason
from hookmill.admin.sources import views
from hookmill.config.settings import Settings
from hookmill.stream.producer import Producer
from hookmill.stream.rates import HOUR
from receiver.metrics import Metrics
from receiver.rates import ReceiverRates

pytestmark = pytest.mark.one_server


async def test_it_adds_what_came_since_the_last_time_and_the_rest_at_its_end(
    stream: Producer,
) -> None:
    metrics = Metrics()
    rates = ReceiverRates(stream.client, lambda: metrics.rates)
    metrics.count("stripe", "accepted")
    metrics.verified("stripe", "env:STRIPE_WEBHOOK_SECRET")
    await rates.add()
    await rates.add()
    metrics.count("stripe", "accepted")
    metrics.count("stripe", "body_mismatch")
    rates.start()
    await rates.stop()
    seen = await RateReader().read(stream.client, HOUR)
    assert seen.total(received_by_source) == {"stripe": 2}
    assert seen.total(refused_by_reason) == {"stripe: body_mismatch": 1}
    (stripe,) = [one for one in views(Settings(), seen) if one.name == "stripe"]
    assert (stripe.accepted, dict(stripe.refused)) == (2, {"body_mismatch": 1})
    assert stripe.secrets == {"env:STRIPE_WEBHOOK_SECRET": 1}
    assert stripe.last_at >= seen.start
    assert stripe.setup[0].startswith("[sources.stripe]")
    assert dict(stripe.facts)["Signed"]
