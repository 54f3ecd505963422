"""A receiver as a real process, whose secrets change while it runs."""

from __future__ import annotations

import http.client
import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from hookmill.signatures import Scheme
from hookmill.signatures.presets import PRESETS
from hookmill.signatures.spec_verifier import SpecVerifier
from tests.ports import free_port
from tests.support import Program, Server, signed_headers, wait_until

OLD, NEW, OTHER = "the old secret of ours", "the new secret of ours", "the secret of another"

_numbers = itertools.count()


class Answered(NamedTuple):
    status: int
    headers: dict[str, str]
    body: str


class Revoking:
    """The program, and its sources `github` and `stripe`."""

    def __init__(self, program: Program, port: int, admin_port: int, folder: Path) -> None:
        self.program = program
        self.port = port
        self.admin_port = admin_port
        self.folder = folder

    def signed(self, source: str, secret: str, preset: str = "github") -> tuple[bytes, Any]:
        scheme: Scheme = SpecVerifier(PRESETS[preset].spec, [secret])
        body = b'{"id":"m%d"}' % next(_numbers)
        return body, signed_headers(scheme, body, f"/{source}")

    def send(self, source: str, secret: str, preset: str = "github") -> Answered:
        body, headers = self.signed(source, secret, preset)
        return _ask(self.port, "POST", f"/{source}", body, headers)

    def get(self, path: str) -> Answered:
        """Ask at the admin address."""
        return _ask(self.admin_port, "GET", path)

    def until(self, status: int, source: str, secret: str, preset: str = "github") -> Answered:
        """Send until this is the status. A withdrawn secret has to stop within ten seconds; more is
        given, because the machine may be busy.
        """
        last: list[Answered] = []

        def is_so() -> bool:
            last[:] = [self.send(source, secret, preset)]
            return last[0].status == status

        wait_until(is_so, what=f"{status} from {source}, not {last}")
        return last[0]

    def logged(self, event: str) -> list[dict[str, Any]]:
        lines = [line for line in self.program.log.splitlines() if line.startswith("{")]
        return [line for line in map(json.loads, lines) if line["event"] == event]


def _ask(
    port: int, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None
) -> Answered:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request(method, path, body, headers or {})
    answer = connection.getresponse()
    found = Answered(answer.status, dict(answer.getheaders()), answer.read().decode())
    connection.close()
    return found


def start_revoking(
    server: Server,
    folder: Path,
    start_program: Callable[..., Program],
    toml: str,
    **env: str,
) -> Revoking:
    (folder / "hookmill.toml").write_text(toml)
    port, admin_port = free_port(), free_port()
    ports = {"PORT": str(port), "HOOKMILL_ADMIN_PORT": str(admin_port)}
    env = {"REDIS_URL": server.url, **ports, **env}
    program = start_program("receiver", env=env)
    program.wait_for('"receiving"')
    return Revoking(program, port, admin_port, folder)
