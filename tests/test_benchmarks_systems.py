"""The benchmarks that start whole systems, each once and small: they do not measure here."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from benchmarks import bodies, end_to_end, memory, worker
from benchmarks.harness import Bench, options
from benchmarks.receiver import signed
from tests.support import Server

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the benchmarks read /proc")


@pytest.fixture
def bench() -> Iterator[Bench]:
    given = options("", 1, "test").parse_args(["--quick"])
    with Bench("test", given, {}) as opened:
        yield opened


def test_the_latency_of_a_delivery_ends_when_its_handler_begins(bench: Bench) -> None:
    receiver: list[str | Path] = [sys.executable, "-m", "hookmill", "receiver"]
    ours = end_to_end.System(end_to_end.OURS, "bench:{0}:stream", receiver, end_to_end.our_worker)
    load = signed(bench, 100)
    found = end_to_end.latencies(bench, ours, load, rate=200.0, seconds=0.5)
    assert len(found) == 90
    assert all(0 < latency < 30_000 for latency in found)
    assert "AOF everysec" in bench.report.versions["server"]


def test_the_load_after_the_warm_up_repeats_nothing_of_it(bench: Bench) -> None:
    load = signed(bench, 10)
    later = end_to_end.after_warm_up(load)
    assert f'file:seek("set", {2 * load.size})' in later.script.read_text()
    assert 'file:seek("set", 0)' in load.script.read_text()


@pytest.mark.parametrize("server", ["valkey"], indirect=True)
def test_each_worker_gets_bodies_of_the_size_and_a_missing_toolchain_is_noted(
    bench: Bench, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    tables = bodies.Tables(bench, "Worker", "message", worker.BARE)
    bodies.handle(bench, server, "2 MB", tables)
    assert [line.name for line in tables.bytes.lines] == [
        f"{name} @ 2 MB" for name in (worker.BARE, worker.OURS)
    ]
    rate, megabytes = tables.rates.lines[0].median, tables.bytes.lines[0].median
    assert megabytes == pytest.approx(2 * rate)
    assert "go is not installed" in bench.report.notes[0]


def test_a_waiting_message_with_a_token_needs_more_of_redis_than_one_without(
    server: Server,
) -> None:
    with redis.Redis.from_url(server.url) as client:
        grew = []
        for with_tokens in (False, True):
            before = memory.append(server, client, 5_000, with_tokens=with_tokens)
            grew.append(memory.used(client) - before)
        by_hand = memory.grown(client, lambda: memory.append_by_hand(client, 5_000))
        client.flushall()
    assert 0 < by_hand < grew[0] < grew[1]
