"""Adding up pages of metrics: sums, gauges that are no sums, labels that look like values."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.openmetrics import exposition, parser
from prometheus_client.parser import text_string_to_metric_families as read_plain

from hookmill.instrumentation.histograms import FAST, Histograms
from hookmill.runtime.summed_metrics import (
    HIGHEST,
    LOWEST,
    SUMMED,
    SummedMetrics,
    parsed,
    rendered,
)
from hookmill.runtime.supervisor_pages import OWN_METRICS

REFERENCE = Path(__file__).parents[2] / "docs" / "reference" / "metrics.md"


# The library's own annotations lack these.
generate_latest: Any = exposition.generate_latest
read_open: Any = parser.text_string_to_metric_families


class Shown:
    def __init__(self, *families: Any) -> None:
        self._families = families

    def collect(self) -> Any:
        return iter(self._families)


def page(*families: Any) -> str:
    """A page as a process gives it."""
    registry = CollectorRegistry()
    registry.register(Shown(*families))
    text: bytes = generate_latest(registry)
    return text.decode()


def counter(**values: float) -> CounterMetricFamily:
    family = CounterMetricFamily("a_count", "Counts.", labels=["of"])
    for of, value in values.items():
        family.add_metric([of], value)
    return family


def sums_of(*pages: str) -> dict[str, float]:
    sums = SummedMetrics()
    for number, one in enumerate(pages):
        sums.note(number, one)
    return {key: s.value for family in sums.sum().values() for key, s in family.samples.items()}


def test_counters_are_summed_for_each_of_their_labels() -> None:
    found = sums_of(page(counter(x=1, y=2)), page(counter(y=3, z=4)))
    assert found == {
        'a_count_total{of="x"}': 1, 'a_count_total{of="y"}': 5, 'a_count_total{of="z"}': 4,
    }  # fmt: skip


def test_each_gauge_is_summed_or_shown_as_the_lowest_or_the_highest() -> None:
    for name, expected in (
        ("hookmill_worker_free_slots", 5),
        ("hookmill_redis_up", 2),
        ("hookmill_group_messages", 3),
    ):
        two = (page(GaugeMetricFamily(name, "A gauge.", value=value)) for value in (2, 3))
        assert sums_of(*two) == {name: expected}


def test_it_is_decided_for_every_gauge_what_several_processes_make_of_it() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| gauge \|", REFERENCE.read_text(), re.MULTILINE)
    gauges = {
        name
        for name, program in rows
        if program != "supervisor" and not name.startswith("hookmill_group")
    }
    assert gauges == SUMMED | LOWEST | HIGHEST
    assert len(SUMMED) + len(LOWEST) + len(HIGHEST) == len(gauges)
    assert {name for name, program in rows if program == "supervisor"} < {
        n for n, *_ in OWN_METRICS
    }


def test_histograms_are_summed_and_keep_an_exemplar() -> None:
    pages = []
    for seconds, trace in ((0.002, ""), (0.2, "0af7651916cd43dd8448eb211c80319c")):
        histograms = Histograms("took_seconds", "How long.", FAST)
        histograms.of().observe(seconds, trace)
        pages.append(page(histograms.family()))
    sums = SummedMetrics()
    for number, one in enumerate(pages):
        sums.note(number, one)
    text = rendered(sums.sum(), as_open_metrics=True)
    (family,) = read_open(text)
    values = {sample.labels.get("le", sample.name): sample for sample in family.samples}
    assert [values[le].value for le in ("0.001", "0.0025", "0.25", "+Inf")] == [0, 1, 2, 2]
    assert values["took_seconds_count"].value == 2
    assert [s.exemplar.labels for s in family.samples if s.exemplar] == [
        {"trace_id": "0af7651916cd43dd8448eb211c80319c"}
    ]
    assert "#" not in "".join(
        line for line in rendered(sums.sum(), as_open_metrics=False).splitlines() if line[0] != "#"
    )


def test_the_counts_of_a_process_that_has_ended_stay_and_its_gauges_go() -> None:
    sums = SummedMetrics()
    gauge = GaugeMetricFamily("hookmill_worker_slots", "A gauge.", value=7)
    sums.note("first", page(counter(x=5), gauge))
    sums.note("second", page(counter(x=1), gauge))
    sums.keep_only(["second"])
    sums.note("third", page(counter(x=2)))
    found = {key: s.value for one in sums.sum().values() for key, s in one.samples.items()}
    assert found == {'a_count_total{of="x"}': 8, "hookmill_worker_slots": 7}


@given(st.lists(st.text(max_size=12), min_size=1, max_size=4, unique=True), st.booleans())
def test_any_label_is_shown_as_the_process_showed_it(
    labels: list[str], as_open_metrics: bool
) -> None:
    family, took = counter(), HistogramMetricFamily("took", "How long.", labels=["of"])
    for number, label in enumerate(labels):
        family.add_metric([label], number + 1)
        took.add_metric([label], [("1.0", 1), ("+Inf", 2)], 3.5)
    try:
        text = page(family, took)
    except UnicodeEncodeError:  # half of a surrogate pair: no process could show it
        return
    read = read_open if as_open_metrics else read_plain
    there = {
        (sample.name, *sample.labels.items()): sample.value
        for one in read(rendered(parsed(text), as_open_metrics=as_open_metrics))
        for sample in one.samples
    }
    expected = {
        (sample.name, *sample.labels.items()): sample.value
        for one in read_open(text)
        for sample in one.samples
    }
    assert there == expected
