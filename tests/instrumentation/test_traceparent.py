"""What is taken from a sender's `traceparent` and `baggage`."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict
from opentelemetry.trace import get_current_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from hookmill.instrumentation.traceparent import (
    MAX_BAGGAGE,
    baggage_of,
    read_traceparent,
    stored_traceparent,
    traceparent_of,
)

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
GOOD = f"00-{TRACE}-{SPAN}-01"

HOSTILE = {
    "zero trace": f"00-{'0' * 32}-{SPAN}-01",
    "zero span": f"00-{TRACE}-{'0' * 16}-01",
    "version ff": f"ff-{TRACE}-{SPAN}-01",
    "upper case": GOOD.upper(),
    "one more part": f"{GOOD}-00",
    "short": GOOD[:-1],
    "huge": GOOD + "-" + "a" * 100_000,
    "other digits": GOOD.replace("4", "\N{ARABIC-INDIC DIGIT FOUR}"),
    "a line more": f"{GOOD}\n",
    "a surrogate": GOOD[:-1] + "\udcff",
    "empty": "",
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_a_traceparent_that_is_not_valid_counts_as_none(text: str) -> None:
    assert read_traceparent(text) is None
    assert traceparent_of(CIMultiDict({"traceparent": text})) is None
    assert stored_traceparent({b"trace": text.encode("utf-8", "surrogateescape")}) is None


def test_a_valid_one_is_read_with_its_flag() -> None:
    found = read_traceparent(GOOD)
    assert found is not None
    assert (found.trace_id, found.span_id, found.is_sampled) == (TRACE, SPAN, True)
    unsampled = read_traceparent(GOOD[:-1] + "0")
    assert unsampled is not None
    assert not unsampled.is_sampled


def test_a_later_version_may_have_more_parts() -> None:
    assert read_traceparent(f"01-{TRACE}-{SPAN}-01-more") == read_traceparent(GOOD)


def test_of_several_traceparents_none_counts() -> None:
    headers = CIMultiDict([("traceparent", GOOD), ("Traceparent", GOOD)])
    assert traceparent_of(headers) is None
    assert traceparent_of(CIMultiDict({"TraceParent": GOOD})) is not None


@given(
    st.from_regex(
        r"(00|01|cc|ff|fe)-[0-9a-fA-F]{32}-([0-9a-f]{16}|0{16})-[0-9a-f]{2}(-[a-z]*)?",
        fullmatch=True,
    )
    | st.text()
)
def test_it_reads_what_opentelemetry_reads(text: str) -> None:
    # OpenTelemetry also strips white space, which no header has at its ends.
    text = text.strip()
    theirs = get_current_span(
        TraceContextTextMapPropagator().extract({"traceparent": text})
    ).get_span_context()
    ours = read_traceparent(text)
    if ours is None:
        assert not theirs.is_valid
    else:
        assert (int(ours.trace_id, 16), int(ours.span_id, 16)) == (theirs.trace_id, theirs.span_id)
        assert ours.is_sampled == theirs.trace_flags.sampled


def test_baggage_is_joined_and_bounded() -> None:
    headers = CIMultiDict([("baggage", "tenant=7"), ("Baggage", "plan=gold;x=1")])
    assert baggage_of(headers) == b"tenant=7,plan=gold;x=1"
    assert baggage_of(CIMultiDict({"baggage": "a=" + "b" * MAX_BAGGAGE})) == b""
    assert len(baggage_of(CIMultiDict({"baggage": "a=" + "b" * (MAX_BAGGAGE - 2)}))) == MAX_BAGGAGE


@given(st.text(max_size=40))
def test_baggage_is_one_line_of_ascii_or_none(text: str) -> None:
    found = baggage_of(CIMultiDict({"baggage": text}))
    assert found in {b"", text.encode("utf-8", "surrogatepass")}
    assert not found or found.decode("ascii").replace("\t", " ").isprintable()
