"""Our own histograms count like those of Prometheus' client, and show exemplars."""

from __future__ import annotations

from typing import Any

import prometheus_client
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.openmetrics import exposition

from hookmill.instrumentation.histograms import (
    FAST,
    RUNNING,
    SIZES,
    WAITING,
    Histograms,
    gauge,
    labelled,
)

TRACE = "0af7651916cd43dd8448eb211c80319c"


class Collected:
    """A collector of one family."""

    def __init__(self, family: Any) -> None:
        self.family = family

    def collect(self) -> Any:
        yield self.family


def text_of(family: Any, *, open_metrics: bool = False) -> str:
    registry = prometheus_client.CollectorRegistry()
    registry.register(Collected(family))
    make = exposition.generate_latest if open_metrics else prometheus_client.generate_latest
    return make(registry).decode()


def buckets(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith(("h_bucket", "h_count"))]


def test_a_negative_time_counts_as_none() -> None:
    ours = Histograms("h", "Ours.", (1.0,))
    ours.of().observe(-5.0, TRACE)
    assert 'h_bucket{le="1.0"} 1.0' in text_of(ours.family())
    assert ours.of().total == 0


@pytest.mark.parametrize("bounds", [FAST, RUNNING, WAITING, SIZES])
def test_bounds_rise(bounds: tuple[float, ...]) -> None:
    assert list(bounds) == sorted(set(bounds))


@given(st.lists(st.floats(0, 20) | st.sampled_from(FAST)))
def test_values_are_counted_as_by_prometheus_client(values: list[float]) -> None:
    registry = prometheus_client.CollectorRegistry()
    theirs = prometheus_client.Histogram("h", "Ours.", ["a"], registry=registry, buckets=FAST)
    ours = Histograms("h", "Ours.", FAST, ("a",))
    for value in values:
        theirs.labels("x").observe(value)
        ours.of("x").observe(value)
    theirs.labels("x")
    ours.of("x")
    theirs_text = prometheus_client.generate_latest(registry).decode()
    assert buckets(text_of(ours.family())) == buckets(theirs_text)
    assert ours.of("x").total == pytest.approx(sum(values))


def test_an_exemplar_names_the_last_trace_in_its_bucket_in_open_metrics_only() -> None:
    ours = Histograms("h", "Ours.", (1.0, 2.0))
    ours.of().observe(1.5, "1" * 32)
    ours.of().observe(1.6, TRACE)
    ours.of().observe(1.7)
    shown = text_of(ours.family(), open_metrics=True)
    assert f'h_bucket{{le="2.0"}} 3.0 # {{trace_id="{TRACE}"}} 1.6 ' in shown
    assert shown.count("trace_id") == 1
    assert "trace_id" not in text_of(ours.family())


def test_what_is_not_known_is_not_shown() -> None:
    assert "\ng 1.0" in text_of(gauge("g", "A gauge.", 1))
    assert "\ng " not in text_of(gauge("g", "A gauge.", None))
    shown = text_of(labelled("gauge", "g", "A gauge.", ["a"], [(("x",), None), (("y",), 2)]))
    assert 'g{a="y"} 2.0' in shown
    assert 'a="x"' not in shown
