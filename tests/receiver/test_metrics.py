"""Counts of deliveries and of the secrets that verified them, as values and over HTTP."""

from __future__ import annotations

import sys

import aiohttp
import pytest

from hookmill.runtime.metrics_page import metrics_page
from receiver.metrics import Metrics
from tests.receiver.serving import HELLO, StartReceiver, deliver

pytestmark = pytest.mark.usefixtures("lines")


OPEN_METRICS = "application/openmetrics-text"


async def text_of(metrics: Metrics) -> str:
    answer = await metrics_page(metrics)()
    assert (answer.status, answer.content_type.partition(";")[0]) == (200, "text/plain")
    return answer.body.decode()


async def test_deliveries_are_counted_by_source_and_outcome() -> None:
    metrics = Metrics()
    for outcome in ("accepted", "accepted", "signature_mismatch"):
        metrics.count("github", outcome)
    metrics.count("stripe", "accepted")
    text = await text_of(metrics)
    assert 'hookmill_deliveries_total{outcome="accepted",source="github"} 2.0' in text
    assert 'hookmill_deliveries_total{outcome="signature_mismatch",source="github"} 1.0' in text
    assert 'hookmill_deliveries_total{outcome="accepted",source="stripe"} 1.0' in text


async def test_a_secret_that_verified_nothing_is_shown_with_zero() -> None:
    metrics = Metrics()
    metrics.add_secrets("github", ["env:OLD", "env:NEW"])
    metrics.verified("github", "env:NEW")
    metrics.add_secrets("github", ["env:OLD", "env:NEW"])  # a reload keeps the counts
    text = await text_of(metrics)
    assert 'hookmill_verified_total{secret="env:OLD",source="github"} 0.0' in text
    assert 'hookmill_verified_total{secret="env:NEW",source="github"} 1.0' in text


async def test_metrics_are_shown_at_the_admin_address_and_not_to_senders(
    start: StartReceiver, http: aiohttp.ClientSession
) -> None:
    running = await start()
    assert (await deliver(running, http))[0] == 200
    async with http.post(f"{running.url}/qstash", data=HELLO) as response:
        assert response.status == 401
    async with http.get(f"{running.admin_url}/metrics") as response:
        assert response.status == 200
        text = await response.text()
    assert 'hookmill_deliveries_total{outcome="accepted",source="qstash"} 1.0' in text
    assert 'hookmill_deliveries_total{outcome="header_missing",source="qstash"} 1.0' in text
    for method in ("GET", "HEAD", "POST"):
        async with http.request(method, f"{running.url}/metrics") as response:
            assert response.status == 404


async def test_without_the_extra_the_answer_says_what_to_install(
    start: StartReceiver, http: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    running = await start()
    async with http.get(f"{running.admin_url}/metrics") as response:
        assert response.status == 501
        assert "hookmill[metrics]" in await response.text()


async def test_requests_and_appends_are_timed_only_where_somebody_can_ask(
    start: StartReceiver, http: aiohttp.ClientSession
) -> None:
    running = await start()
    assert (await deliver(running, http))[0] == 200
    async with http.get(f"{running.admin_url}/metrics") as response:
        text = await response.text()
    assert 'hookmill_request_seconds_count{source="qstash"} 1.0' in text
    assert "hookmill_append_seconds_count 1.0" in text
    assert "hookmill_append_batch_messages_sum 1.0" in text
    assert 'hookmill_unavailable_deliveries_total{source="qstash"} 0.0' in text


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("*/*", "text/plain"),
        (
            "application/openmetrics-text;version=1.0.0,text/plain;q=0.5",
            "application/openmetrics-text",
        ),
        (OPEN_METRICS + "; version=\xff.\xff", "text/plain"),
        ("text/plain;version=x" * 50, "text/plain"),
    ],
)
async def test_the_format_is_what_the_request_accepts_and_nonsense_gets_the_plain_one(
    start: StartReceiver, http: aiohttp.ClientSession, accept: str, expected: str
) -> None:
    running = await start()
    async with http.get(f"{running.admin_url}/metrics", headers={"Accept": accept}) as response:
        assert (response.status, response.content_type) == (200, expected)


def test_the_last_good_reload_keeps_its_time() -> None:
    metrics = Metrics()
    metrics.reloaded(is_good=True, now=5.0)
    metrics.reloaded(is_good=False, now=9.0)
    found = {
        sample.name: sample.value
        for family in metrics.collect()
        for sample in family.samples
        if "reload" in sample.name
    }
    assert found == {
        "hookmill_last_reload_successful": 0,
        "hookmill_last_reload_success_timestamp_seconds": 5,
    }
