"""The audit against a real HTTP server, and what it says when it could not find out."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

from locks.audit import main
from locks.lockfile import FOLDER, read_lock

PRODUCTION = str(FOLDER / "production.txt")
PACKAGES = read_lock(Path(PRODUCTION))
NOW = datetime.now(UTC)

RECORD: dict[str, Any] = {
    "id": "PYSEC-2026-1",
    "modified": NOW.isoformat(),
    "aliases": ["CVE-2026-1"],
    "summary": "Request smuggling",
    "affected": [
        {
            "package": {"ecosystem": "PyPI", "name": "aiohttp"},
            "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "99"}]}],
        }
    ],
}
OTHER = RECORD | {
    "id": "PYSEC-2026-2",
    "affected": [{"package": {"ecosystem": "npm", "name": "aiohttp"}}],
}


class Osv(BaseHTTPRequestHandler):
    """Answers like OSV. `found` are the advisories of each package."""

    found: ClassVar[dict[str, list[str]]] = {}
    records: ClassVar[dict[str, dict[str, Any]]] = {}
    answer: ClassVar[bytes | None] = None
    status: ClassVar[int] = 200

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path == "/v1/querybatch":
            self.say({"results": [self.result(one["package"]["name"]) for one in asked["queries"]]})
        else:
            assert asked["page_token"] == "more"
            self.say({"vulns": [{"id": self.found[asked["package"]["name"]][1]}]})

    def result(self, name: str) -> dict[str, Any]:
        match self.found.get(name, []):
            case []:
                return {}
            case [first]:
                return {"vulns": [{"id": first}]}
            case [first, *_]:
                return {"vulns": [{"id": first}], "next_page_token": "more"}
        raise AssertionError

    def do_GET(self) -> None:
        self.say(self.records[self.path.removeprefix("/v1/vulns/")])

    def say(self, answer: object) -> None:
        body = json.dumps(answer).encode() if self.answer is None else self.answer
        self.send_response(self.status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def osv(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, type[Osv]]]:
    class Own(Osv):
        pass

    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with ThreadingHTTPServer(("127.0.0.1", 0), Own) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}", Own
        server.shutdown()
        thread.join()


def test_without_a_known_advisory_it_passes(
    osv: tuple[str, type[Osv]], capsys: pytest.CaptureFixture[str]
) -> None:
    url, _ = osv
    assert main(["--url", url, PRODUCTION]) == 0
    assert capsys.readouterr().out == f"{len(PACKAGES)} packages checked, 0 advisories\n"


def test_every_advisory_of_every_page_is_reported(
    osv: tuple[str, type[Osv]], capsys: pytest.CaptureFixture[str]
) -> None:
    url, server = osv
    server.found = {"aiohttp": ["PYSEC-2026-1", "PYSEC-2026-3"]}
    server.records = {"PYSEC-2026-1": RECORD, "PYSEC-2026-3": RECORD | {"id": "PYSEC-2026-3"}}
    assert main(["--url", url, PRODUCTION]) == 1
    rows = capsys.readouterr().out.splitlines()
    version = next(one.version for one in PACKAGES if one.name == "aiohttp")
    assert rows == [
        f"aiohttp {version}: PYSEC-2026-{number} CVE-2026-1: Request smuggling; fixed in 99"
        for number in (1, 3)
    ] + [f"{len(PACKAGES)} packages checked, 2 advisories"]


@pytest.mark.parametrize(
    ("status", "answer"),
    [
        (500, b"{}"),
        (404, b'{"results": []}'),
        (200, b"<html>sign in to this network</html>"),
        (200, b"{}"),
        (200, b"[]"),
        (200, b'{"results": []}'),
        (200, b'{"results": [7]}'),
        (200, json.dumps({"results": [{"vulns": [{}]}] * len(PACKAGES)}).encode()),
        (200, json.dumps({"results": [7] * len(PACKAGES)}).encode()),
        (200, b"\xff"),
    ],
)
def test_an_answer_that_is_not_osvs_is_not_a_pass(
    osv: tuple[str, type[Osv]], capsys: pytest.CaptureFixture[str], status: int, answer: bytes
) -> None:
    url, server = osv
    server.status, server.answer = status, answer
    assert main(["--url", url, PRODUCTION]) == 3
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("NOT CHECKED: ")
    assert "Traceback" not in said.err


def test_without_a_network_it_says_so_with_a_status_of_its_own() -> None:
    """As a process, as CI runs it."""
    program = [sys.executable, "-m", "locks.audit", "--url", "http://127.0.0.1:1", PRODUCTION]
    ran = subprocess.run(program, cwd=FOLDER.parent, capture_output=True, text=True, check=False)
    assert ran.returncode == 3
    assert ran.stdout == ""
    assert "NOT CHECKED: http://127.0.0.1:1/v1/querybatch" in ran.stderr
    assert "--database FILE" in ran.stderr
    assert "Traceback" not in ran.stderr


def database(file: Path, *records: object) -> str:
    with zipfile.ZipFile(file, "w") as archive:
        for number, one in enumerate(records):
            archive.writestr(f"{number}.json", one if isinstance(one, str) else json.dumps(one))
    return str(file)


def test_a_copy_of_osvs_file_serves_without_a_network(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = database(tmp_path / "all.zip", RECORD, OTHER)
    assert main(["--database", file, PRODUCTION]) == 1
    assert "PYSEC-2026-1 CVE-2026-1" in capsys.readouterr().out
    assert main(["--database", database(tmp_path / "other.zip", OTHER), PRODUCTION]) == 0


@pytest.mark.parametrize(
    "records",
    [
        [],
        ["not JSON"],
        ["[]"],
        [{"id": "PYSEC-1"}],
        [RECORD, RECORD | {"affected": 7}],
        [RECORD | {"modified": (NOW - timedelta(days=40)).isoformat()}],
    ],
    ids=["empty", "no JSON", "a list", "no time", "no record", "old"],
)
def test_a_file_that_is_not_osvs_or_old_is_not_a_pass(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], records: list[object]
) -> None:
    assert main(["--database", database(tmp_path / "all.zip", *records), PRODUCTION]) == 3
    assert "NOT CHECKED" in capsys.readouterr().err


def test_a_file_or_a_lock_that_cannot_be_read_is_not_a_pass(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = Path(database(tmp_path / "all.zip", RECORD)).read_bytes()
    cut = tmp_path / "cut.zip"
    cut.write_bytes(whole[: len(whole) // 2])
    broken = tmp_path / "broken.txt"
    broken.write_text("aiohttp>=3\n")
    for arguments in (
        ["--database", str(tmp_path / "none.zip"), PRODUCTION],
        ["--database", str(cut), PRODUCTION],
        ["--database", str(tmp_path / "all.zip"), str(broken)],
        ["--database", str(tmp_path / "all.zip"), str(tmp_path / "none.txt")],
    ):
        assert main(arguments) == 3
        assert "NOT CHECKED" in capsys.readouterr().err
