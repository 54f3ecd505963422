"""Whatever a client sends is read or refused, and never an error of ours."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from hookmill.emulator.filters import read_filter
from hookmill.emulator.models import (
    ApiError,
    Headers,
    PublishRequest,
)
from hookmill.emulator.pages import read_page
from hookmill.emulator.requests import (
    ApiRequest,
    read_batch,
    read_enqueue,
    read_publish,
    read_schedule,
)
from hookmill.emulator.resource_requests import (
    read_endpoints,
    read_pin,
    read_queue_change,
)
from tests.emulator.refusals import is_fine, outcome
from tests.emulator.test_options import REFUSED, SETTINGS

URL = "https://example.com/hook"

TEXTS = st.one_of(
    st.text(max_size=40),
    st.sampled_from(
        ["", "5s", "1d", "true", "100", "rate=1", "body", "1000 * retried", URL, "\udcff"]
    ),
)

NAMES = st.one_of(
    st.sampled_from(
        [name for name, *_ in SETTINGS]
        + [name for headers, _ in REFUSED for name in headers]
        + ["Upstash-Header-Forward", "Upstash-Queue-Name", "Upstash-Schedule-Id", "X"]
    ),
    st.text(max_size=10).map("Upstash-Forward-".__add__),
    st.text(max_size=20),
)

HEADERS = st.lists(st.tuples(NAMES, TEXTS), max_size=8).map(tuple)

DESTINATIONS = st.one_of(
    st.text(max_size=60),
    st.text(max_size=60).map("https://example.com/".__add__),
    st.lists(st.tuples(NAMES.map(str.lower), TEXTS.map(lambda text: quote(text, errors="replace"))))
    .map(lambda pairs: URL + "?" + "&".join(f"{name}={value}" for name, value in pairs)),
)  # fmt: skip


@settings(max_examples=300)
@given(destination=DESTINATIONS, headers=HEADERS, body=st.binary(max_size=20))
def test_any_request_can_be_saved_or_is_refused(
    destination: str, headers: Headers, body: bytes
) -> None:
    readers: list[tuple[str, Callable[[ApiRequest], PublishRequest]]] = [
        ("/v2/publish/", read_publish),
        ("/v2/enqueue/q/", lambda given: read_enqueue(given, "q")),
        ("/v2/schedules/", lambda given: read_schedule(given).request),
    ]
    for path, read in readers:
        parsed = outcome(read, ApiRequest(path + destination, headers, body, "::1"))
        assert is_fine(parsed)
        if isinstance(parsed, ApiError):
            continue
        kept = msgspec.msgpack.decode(msgspec.msgpack.encode(parsed), type=PublishRequest)
        assert kept == parsed
        assert parsed.template.body == body
        if "upstash-" not in destination and "qstash_token" not in destination:
            assert parsed.destination == destination


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXTS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                ["destination", "headers", "body", "queue", "messageIds", "dlqIds", "label"]
            )
            | TEXTS,
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@settings(max_examples=300)
@given(value=JSON, raw=st.binary(max_size=30))
def test_any_body_is_read_or_refused(value: Any, raw: bytes) -> None:
    # json writes lone surrogates, as a hostile client would.
    for body in (json.dumps(value).encode(), json.dumps([value]).encode(), raw):
        for read in (
            lambda given: read_batch(ApiRequest("", (), given)),
            lambda given: read_filter([], given),
            read_queue_change,
            read_endpoints,
        ):
            assert is_fine(outcome(read, body))


@given(pairs=st.lists(st.tuples(st.sampled_from(["count", "cursor", "rate", "label"]), TEXTS)))
def test_any_query_is_read_or_refused(pairs: list[tuple[str, str]]) -> None:
    for read in (read_filter, read_pin, lambda given: read_page(given, default=1, most=1)):
        assert is_fine(outcome(read, pairs))
