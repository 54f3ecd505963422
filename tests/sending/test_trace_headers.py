"""A message goes on in the trace of the code that sends it, where that is asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import baggage, context
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    TraceFlags,
    set_span_in_context,
)

from hookmill import Outgoing, Sender
from hookmill.errors import SettingsError
from tests.scripted import Scripted
from tests.sending.helpers import POST, THRICE, TOKEN, URL

CURRENT = SpanContext(int("ab" * 16, 16), int("cd" * 8, 16), is_remote=False,
                      trace_flags=TraceFlags(1))  # fmt: skip
TRACEPARENT = f"00-{'ab' * 16}-{'cd' * 8}-01"
FORWARDED = "Upstash-Forward-traceparent"


@pytest.fixture(autouse=True)
def in_own_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)


@contextmanager
def in_a_trace() -> Iterator[None]:
    within = set_span_in_context(NonRecordingSpan(CURRENT))
    token = context.attach(baggage.set_baggage("tenant", "7", within))
    try:
        yield
    finally:
        context.detach(token)


async def headers_of(send: Callable[[Sender], Any], **options: Any) -> Any:
    """The headers of the request that publishes what `send` sends in a trace."""
    async with Scripted() as server:
        sender = Sender(token=TOKEN, url=server.base, retry_policy=THRICE, **options)
        async with sender:
            with in_a_trace():
                await send(sender)
    (call,) = server.calls
    return call.headers


async def test_without_the_setting_no_message_has_a_trace() -> None:
    headers = await headers_of(lambda sender: sender.send(URL, POST), baggage=True)
    assert not [name for name in headers if name.lower().startswith("upstash-forward-")]


@pytest.mark.parametrize("where", ["environment", "file"])
async def test_a_message_has_the_trace_that_is_current_where_it_is_sent(
    where: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if where == "environment":
        monkeypatch.setenv("HOOKMILL_TRACES", "joined")
    else:
        (tmp_path / "hookmill.toml").write_text('traces = "linked"')
    headers = await headers_of(lambda sender: sender.send(URL, POST))
    assert headers[FORWARDED] == TRACEPARENT
    assert "Upstash-Forward-baggage" not in headers


async def test_its_baggage_goes_along_only_where_that_is_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HOOKMILL_TRACES", "joined")
    headers = await headers_of(lambda sender: sender.send(URL, POST), baggage=True)
    assert headers["Upstash-Forward-baggage"] == "tenant=7"


async def test_a_header_of_the_user_is_not_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOKMILL_TRACES", "joined")
    own = {"TraceParent": "mine", "X-Own": "1"}
    headers = await headers_of(lambda sender: sender.send(URL, POST, headers=own))
    assert headers.getall(FORWARDED) == ["mine"]
    assert headers["Upstash-Forward-X-Own"] == "1"


async def test_what_qstash_compares_by_its_content_has_no_trace(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HOOKMILL_TRACES", "joined")
    many = [Outgoing(URL, {"a": 1}, content_based_deduplication=True)]
    headers = await headers_of(lambda sender: sender.send_many(many))
    assert FORWARDED not in headers


async def test_without_a_trace_nothing_is_added(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOKMILL_TRACES", "joined")
    async with Scripted() as server, Sender(token=TOKEN, url=server.base) as sender:
        await sender.send(URL, POST)
    assert FORWARDED not in server.calls[0].headers


def test_a_wrong_value_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOKMILL_TRACES", "on")
    with pytest.raises(SettingsError, match="HOOKMILL_TRACES: use one of off, linked, joined"):
        Sender(direct=True)
