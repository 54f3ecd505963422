"""The parts that the benchmarks use. The benchmarks themselves do not run here, because they need
the whole machine. `make bench ARGS=--quick` runs each of them for a short time.
"""

from __future__ import annotations

import asyncio
import json
import re
import socket
import socketserver
import sys
import threading
import time
import tomllib
from pathlib import Path

import msgspec
import pytest
import redis
from multidict import CIMultiDict

from benchmarks import (
    deliveries,
    filling,
    interpreter,
    loadgen,
    plots,
    programs,
    receiver,
    report,
    worker,
)
from benchmarks.tables import Line, Report, Table
from hookmill.message import PACKED_VERSION
from hookmill.signatures import Signed
from hookmill.signatures.qstash import QStash
from hookmill.signatures.scheme import Verified
from hookmill.stream.client import Client
from hookmill.stream.wire_readers import WireReaders
from tests.support import Server

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the benchmarks read /proc")

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def test_presigned_deliveries_are_genuine_and_of_one_length() -> None:
    headers, body = deliveries.delivery(7, 1_700_000_000)
    delivery = Signed(CIMultiDict(headers), body, "/qstash")
    scheme = QStash([deliveries.KEY], public_url="https://app.example")
    assert isinstance(scheme.verify(delivery, 1_700_000_001), Verified)
    assert len(body) == 214
    assert len({len(one) for one in deliveries.requests(100)}) == 1


def test_the_load_generator_counts_from_when_a_request_was_due() -> None:
    """A server that stops for a while delays every request that is due meanwhile, not only one."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = threading.Thread(target=stand_still_once, args=(listener, 0.2))
        server.start()
        outcome = loadgen.run(listener.getsockname()[1], [b"x"] * 100, rate=500.0, connections=1)
        server.join()
    assert len(outcome.latencies) == 100
    assert outcome.refused == 0
    assert sum(latency > 0.05 for latency in outcome.latencies) > 50


def test_a_short_load_is_measured_though_it_ends_within_the_usual_warm_up(tmp_path: Path) -> None:
    path = tmp_path / "requests"
    path.write_bytes(b"x" * 40)
    load = receiver.Load(path, total=40, size=1, script=path)
    with Listening(("127.0.0.1", 0), Answering) as server:
        threading.Thread(target=server.serve_forever).start()
        outcome = receiver.at_rate(load, server.server_address[1], rate=400.0, seconds=5.0)
        server.shutdown()
    assert 1 <= len(outcome.latencies) <= 20


class Listening(socketserver.ThreadingTCPServer):
    request_queue_size = 64  # all connections of the load generator at once


class Answering(socketserver.BaseRequestHandler):
    """Answers each byte that arrives with 200."""

    def handle(self) -> None:
        while self.request.recv(1):
            self.request.sendall(ANSWER)


def stand_still_once(listener: socket.socket, seconds: float) -> None:
    connection, _ = listener.accept()
    with connection:
        time.sleep(seconds)
        while connection.recv(1):
            connection.sendall(ANSWER)


def test_a_table_is_written_into_the_page_between_its_marks() -> None:
    table = Table("T", "ms", [Line("ours", [1.0, 3.0, 2.0]), Line("limit", [1.0])], against="limit")
    machine = {"cpu": "C", "cores": "2", "system": "S", "python": "3"}
    given = Report(
        "worker", "cmd", "today", machine, {"hookmill": "1"}, {"it": "core 0"}, 3, [table]
    )
    page = "a\n<!-- worker -->\nold\n<!-- /worker -->\n<!-- x -->\n<!-- /x -->"
    filled = report.filled_in(page, {"worker": given})
    assert "old" not in filled
    assert "| ours | 2 | 1 to 3 | 2.00 |  |" in filled
    assert report.filled_in(filled, {"worker": given}) == filled


def test_a_table_names_its_interpreter_and_older_results_their_version_of_python() -> None:
    machine = {"cpu": "C", "cores": "2", "system": "S", "python": "3.11.2"}
    older = Report("worker", "cmd", "today", machine, {}, {}, 1)
    assert "S, Python 3.11.2." in report.in_markdown(older)
    newer = msgspec.structs.replace(older, machine={**machine, "interpreter": "CPython, with PGO"})
    assert "S, CPython, with PGO." in report.in_markdown(newer)


@pytest.mark.parametrize(
    ("arguments", "prefix", "said"),
    [
        ("'--enable-optimizations' '--with-lto'", "/usr/local", "with PGO and LTO"),
        ("'--enable-optimizations' '--with-lto=no'", "/usr/local", "with PGO"),
        ("'--with-lto=full' 'LDFLAGS=-Wl,-z -lm'", "/opt/python", "with LTO, without PGO"),
        ("", "/opt/python", "without PGO"),
        ("'--enable-shared'", "/usr", "the distribution, which does not record"),
    ],
)
def test_an_interpreter_is_said_to_have_pgo_only_where_that_is_recorded(
    arguments: str, prefix: str, said: str
) -> None:
    assert said in interpreter.optimized(arguments, prefix)


def test_a_peer_is_installed_again_when_the_interpreter_is_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[tuple[str, ...]] = []
    monkeypatch.setattr(programs, "ROOT", tmp_path)
    monkeypatch.setattr(programs, "PROGRAMS", tmp_path)
    monkeypatch.setattr(programs, "_run", lambda _, *command: ran.append(command))
    (tmp_path / "saq").mkdir()
    for identity, installations in (("one", 1), ("one", 1), ("another", 2)):
        monkeypatch.setattr(interpreter, "identity", lambda given=identity: given)
        programs.environment("saq")
        assert sum("venv" in command for command in ran) == installations


def test_names_in_a_drawing_are_escaped() -> None:
    assert "&lt;b&gt;" in plots.bars("<b>", [plots.Bar("a", 1.0, 1.0, 1.0)])


def test_every_peer_has_its_pins_and_its_script() -> None:
    assert all(programs.pinned_version(package) != "?" for package in receiver.PACKAGES)
    for peer in worker.PEERS:
        assert programs.pinned_version(peer.package) != "?"
        assert peer.command or (programs.PEERS / f"with_{peer.package}.py").is_file()


def test_the_pins_of_every_peer_name_exact_versions() -> None:
    for path in programs.PEERS.glob("*.txt"):
        assert all(re.fullmatch(r"[\w.\[\]-]+==[\w.]+", line) for line in lines_of(path)), path
    for path in programs.PEERS.glob("*/Cargo.toml"):
        dependencies = tomllib.loads(path.read_text())["dependencies"].values()
        versions = [one if isinstance(one, str) else one["version"] for one in dependencies]
        assert all(re.fullmatch(r"=\d+\.\d+\.\d+", version) for version in versions), path
    wanted = json.loads((programs.PEERS / "node" / "package.json").read_text())["dependencies"]
    assert all(re.fullmatch(r"\d+\.\d+\.\d+", version) for version in wanted.values())


def lines_of(path: Path) -> list[str]:
    return [line for line in path.read_text().splitlines() if line and line[0] != "#"]


def test_a_lock_of_a_peer_has_the_hash_of_every_package_and_names_no_registry() -> None:
    hashes = (programs.PEERS / "go" / "go.sum").read_text()
    required = re.findall(
        r"^\t(\S+ v\S+)", (programs.PEERS / "go" / "go.mod").read_text(), re.MULTILINE
    )
    assert required
    assert all(f"{module}/go.mod h1:" in hashes for module in required)
    for path in programs.PEERS.glob("*/Cargo.lock"):
        packages = tomllib.loads(path.read_text())["package"]
        assert "registry" not in path.read_text()
        assert [one["name"] for one in packages if "checksum" not in one] == [path.parent.name]
    lock = (programs.PEERS / "node" / "package-lock.json").read_text()
    assert "://" not in lock
    installed = json.loads(lock)["packages"]
    assert [path for path, one in installed.items() if "integrity" not in one] == [""]


def test_cargo_is_given_the_source_of_every_crate_that_has_a_hash() -> None:
    for path in programs.PEERS.glob("*/Cargo.lock"):
        for one in tomllib.loads(programs.with_sources(path.read_text()))["package"]:
            assert ("source" in one) == ("checksum" in one)


def test_a_peer_whose_toolchain_is_missing_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    for make in (programs.go_peer, programs.rust_peer, programs.node_peer):
        with pytest.raises(LookupError, match="is left out"):
            make("goreceiver")


def test_a_large_body_has_the_size_that_was_asked_for_and_its_delivery_is_genuine() -> None:
    headers, body = deliveries.delivery(7, 1_700_000_000, body_size=100_000)
    scheme = QStash([deliveries.KEY], public_url="https://app.example")
    delivery = Signed(CIMultiDict(headers), body, "/qstash")
    assert isinstance(scheme.verify(delivery, 1_700_000_001), Verified)
    assert len(body) == 100_000
    assert len(filling.message(7, 100_000).body) == 100_000


def test_before_a_receiver_is_measured_there_is_a_worker_that_reads_what_is_written_now(
    server: Server,
) -> None:
    with redis.Redis.from_url(server.url) as client:
        client.set("old", "1")
        filling.empty(server)
        assert not client.exists("old")
        versions = asyncio.run(read_by_workers(server.url))
        client.flushall()
    assert PACKED_VERSION in versions


async def read_by_workers(url: str) -> frozenset[int]:
    async with Client(url, filling.PREFIX) as client:
        return await WireReaders(client, lease=30.0).versions()
