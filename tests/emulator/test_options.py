"""The options of a request: how each is read, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import msgspec
import pytest

from hookmill.emulator.models import (
    CallbackTarget,
    FlowLimits,
    PublishRequest,
    Template,
)
from hookmill.emulator.requests import (
    ApiRequest,
    read_batch,
    read_publish,
)
from tests.emulator.refusals import refusal

URL = "https://example.com/hook"


def request(destination: str = URL, /, **headers: str) -> ApiRequest:
    """A request to publish; `Upstash_Delay="5s"` stands for a header."""
    given = tuple((name.replace("_", "-"), value) for name, value in headers.items())
    return ApiRequest(f"/v2/publish/{destination}", given, peer="10.1.2.3")


def template(**headers: str) -> Template:
    return read_publish(request(**headers)).template


SETTINGS: list[tuple[str, str, str, Any]] = [
    ("Upstash-Method", "delete", "method", "DELETE"),
    ("Upstash-Retries", "0", "retries", 0),
    ("Upstash-Retry-Delay", "pow(2, retried) * 1000", "retry_delay", "pow(2, retried) * 1000"),
    ("Upstash-Timeout", "5s", "timeout", 5.0),
    ("Upstash-Timeout", "1h30m", "timeout", 5400.0),
    ("Upstash-Label", "one, two,,", "labels", ("one", "two")),
    ("Upstash-Redact-Fields", "body, headers", "redact", ("body", "header")),
    ("Upstash-Redact-Fields", "Header[My-X],headers[y]", "redact", ("header[My-X]", "header[y]")),
    ("Upstash-Unknown", "\u00fc", "method", "POST"),
    ("Upstash-Retries", "", "retries", 3),
    ("Upstash-Telemetry-Sdk", "upstash-qstash-js@2", "retries", 3),
]


@pytest.mark.parametrize(("name", "value", "field", "expected"), SETTINGS)
@pytest.mark.parametrize("spelt", [str.title, str.lower, str.upper])
@pytest.mark.parametrize("where", ["header", "query", "batch"])
def test_an_option_is_read_from_header_query_and_batch(
    name: str, value: str, field: str, expected: Any, spelt: Callable[[str], str], where: str
) -> None:
    if where == "query":
        parsed = read_publish(request(f"{URL}?{name.lower()}={quote(value)}"))
    elif where == "header":
        parsed = read_publish(ApiRequest(f"/v2/publish/{URL}", ((spelt(name), value),)))
    else:
        item = {"destination": URL, "headers": {spelt(name): value}}
        (found,) = read_batch(ApiRequest("/v2/batch", (), msgspec.json.encode([item])))
        assert isinstance(found, PublishRequest)
        parsed = found
    assert getattr(parsed.template, field) == expected


@pytest.mark.parametrize(
    ("value", "milliseconds"),
    [("50s", 50_000), ("1d10h30m", 124_200_000), ("1d", 86_400_000), ("90m", 5_400_000), ("0s", 0)],
)
def test_a_delay_is_a_duration(value: str, milliseconds: int) -> None:
    assert read_publish(request(Upstash_Delay=value)).delay_ms == milliseconds


def test_not_before_is_in_seconds() -> None:
    assert read_publish(request(Upstash_Not_Before="1700000000")).not_before_ms == 1.7e12


@pytest.mark.parametrize("spelt", ["true", "True", "TRUE", "1", " true "])
def test_a_boolean_may_be_capitalised(spelt: str) -> None:
    parsed = read_publish(request(Upstash_Content_Based_Deduplication=spelt))
    assert parsed.is_deduplicated_by_content


@pytest.mark.parametrize("spelt", ["false", "False", "0", ""])
def test_a_boolean_may_be_false(spelt: str) -> None:
    parsed = read_publish(request(Upstash_Content_Based_Deduplication=spelt))
    assert not parsed.is_deduplicated_by_content


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("parallelism=5, rate=10, period=1m", FlowLimits("k", 5, 10, 60.0)),
        ("Rate=10,Parallelism=5", FlowLimits("k", 5, 10)),
        ("rate=1,period=30", FlowLimits("k", 0, 1, 30.0)),
        ("rate=1,period=7d", FlowLimits("k", 0, 1, 604_800.0)),
    ],
)
def test_flow_control_has_a_key_and_limits(value: str, expected: FlowLimits) -> None:
    read = template(Upstash_Flow_Control_Key="k", Upstash_Flow_Control_Value=value)
    assert read.flow_control == expected


@pytest.mark.parametrize("kind", ["Callback", "Failure-Callback"])
def test_a_callback_has_its_own_options(kind: str) -> None:
    headers = {
        f"Upstash-{kind}": "https://example.com/back?x=1",
        f"Upstash-{kind}-Method": "PUT",
        f"Upstash-{kind}-Timeout": "10s",
        f"Upstash-{kind}-Retry-Delay": "1000",
        f"Upstash-{kind}-Delay": "1m",
        f"Upstash-{kind}-Forward-My-Header": "yes",
        "Upstash-Retries": "5",
    }
    read = template(**headers)
    expected = CallbackTarget(
        "https://example.com/back?x=1", "PUT", (("My-Header", "yes"),), 5, "1000", 60_000, 10.0
    )
    given, other = read.callback, read.failure_callback
    assert (given, other) == ((expected, None) if kind == "Callback" else (None, expected))
    one = template(**headers, **{f"Upstash-{kind}-Retries": "0"})
    assert ((one.callback or one.failure_callback) or expected).retries == 0


REFUSED: list[tuple[dict[str, str], str]] = [
    ({"Upstash-Method": "HEAD"}, "Upstash-Method: 'HEAD' is none of GET"),
    ({"Upstash-Retries": "-1"}, "Upstash-Retries: '-1' is not a whole number"),
    ({"Upstash-Retries": "1.5"}, "Upstash-Retries"),
    ({"Upstash-Retries": "1_0"}, "Upstash-Retries"),
    ({"Upstash-Retries": "\u0663"}, "Upstash-Retries"),
    ({"Upstash-Retries": "9" * 30}, "Upstash-Retries"),
    ({"Upstash-Delay": "5"}, "Upstash-Delay: '5' is not a duration"),
    ({"Upstash-Delay": "5 s"}, "Upstash-Delay"),
    ({"Upstash-Delay": "99999999999d"}, "Upstash-Delay"),
    ({"Upstash-Delay": "9999999d"}, "longer than ten years"),
    ({"Upstash-Timeout": "soon"}, "Upstash-Timeout"),
    ({"Upstash-Not-Before": "2026-01-01"}, "Upstash-Not-Before"),
    ({"Upstash-Not-Before": "1700000000000"}, "Upstash-Not-Before"),
    ({"Upstash-Retry-Delay": "__import__('os')"}, "retry delay"),
    ({"Upstash-Content-Based-Deduplication": "maybe"}, "neither true nor false"),
    ({"Upstash-Redact-Fields": "bodies"}, "Upstash-Redact-Fields"),
    ({"Upstash-Flow-Control-Key": "k"}, "Upstash-Flow-Control-Value is missing"),
    ({"Upstash-Flow-Control-Value": "rate=1"}, "Upstash-Flow-Control-Key is missing"),
    ({"Upstash-Callback": "nowhere"}, "Upstash-Callback is not a URL"),
    ({"Upstash-Failure-Callback": "team"}, "Upstash-Failure-Callback is not a URL"),
    ({"Upstash-Callback": URL, "Upstash-Callback-Retries": "x"}, "Upstash-Callback-Retries"),
    ({"Upstash-Forward-": "x"}, "name of a header"),
    ({"Upstash-Forward-A b": "x"}, "name of a header"),
    ({"Upstash-Forward-X": "a\r\nSet-Cookie: b"}, "control character"),
    ({"Upstash-Forward-X": "\udcff"}, "not UTF-8"),
    ({"Content-Type": "\x00"}, "control character"),
    ({"Upstash-Cron": "* * * * *"}, "/v2/schedules/"),
]
REFUSED += [
    ({"Upstash-Flow-Control-Key": "k", "Upstash-Flow-Control-Value": value}, "Flow-Control-Value")
    for value in ("rate", "rate=0", "rate=x", "size=1", "period=1m", "rate=1,period=8d", ",")
]


@pytest.mark.parametrize(("headers", "reason"), REFUSED)
def test_an_invalid_option_is_refused_by_its_name(headers: dict[str, str], reason: str) -> None:
    assert reason in refusal(read_publish, request(**headers))
