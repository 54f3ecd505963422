"""When a failed attempt is made again, by whose word."""

from __future__ import annotations

import pytest

from hookmill.emulator.backoff import default_ms, wait_ms
from hookmill.emulator.models import AttemptResult, QStashMessage, Template

NOW = 1_779_400_000_000


def message(retried: int = 0, retry_delay: str = "") -> QStashMessage:
    template = Template(retry_delay=retry_delay)
    return QStashMessage("m", "http://a.example/", template, 1, NOW, NOW, retried=retried)


def asking(name: str, value: str) -> AttemptResult:
    return AttemptResult(429, (("Server", "s"), (name, value)))


@pytest.mark.parametrize(
    ("retried", "said"), [(0, "12s"), (1, "2m28s"), (2, "30m8s"), (3, "6h7m6s"), (4, "24h0m0s")]
)
def test_the_service_s_own_backoff_is_as_documented(retried: int, said: str) -> None:
    seconds = wait_ms(message(retried), AttemptResult(500), NOW) // 1000
    hours, rest = divmod(seconds, 3600)
    shown = f"{hours}h" if hours else ""
    shown += f"{rest // 60}m" if seconds >= 60 else ""
    assert f"{shown}{seconds % 60}s" == said


@pytest.mark.parametrize(
    "name",
    ["Retry-After", "X-RateLimit-Reset", "x-ratelimit-reset-requests", "X-RateLimit-Reset-Tokens"],
)
@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("0", 0),
        ("7", 7_000),
        ("1.5", 1_500),
        ("6m5s", 365_000),
        ("1h2m3.5s", 3_723_500),
        ("250ms", 250),
        ("86400", 86_400_000),
        ("Thu, 21 May 2026 21:46:50 GMT", 10_000),
        ("Thu, 21 May 2020 21:46:50 GMT", 0),
    ],
)
def test_what_the_destination_asks_for_is_honoured(name: str, value: str, expected: int) -> None:
    assert wait_ms(message(), asking(name, value), NOW) == expected


@pytest.mark.parametrize(
    "value", ["", "soon", "-5", "86401", "25h", "1d", "٣", "1e999", "5 s", "s", "9" * 400 + "h"]
)
def test_what_cannot_be_read_or_is_beyond_a_day_is_not(value: str) -> None:
    assert wait_ms(message(), asking("Retry-After", value), NOW) == default_ms(1)


def test_the_messages_own_expression_comes_next() -> None:
    own = message(3, "1000 * (1 + retried)")
    assert wait_ms(own, AttemptResult(500), NOW) == 4000
    assert wait_ms(own, asking("Retry-After", "9"), NOW) == 9000
    assert wait_ms(message(0, "1 / retried"), AttemptResult(500), NOW) == default_ms(1)
