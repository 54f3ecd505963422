"""Programs that reach Redis with TLS and certificates of their own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import redis

from tests.e2e.line import Line
from tests.support import Program, Server
from tests.tls_server import NAME, TLSServer

OwnServer = Callable[..., Server]
StartProgram = Callable[..., Program]


@pytest.fixture
def tls(own_server: OwnServer, tmp_path: Path) -> TLSServer:
    return TLSServer(own_server, tmp_path)


async def test_the_line_works_with_certificates_and_goes_on_after_they_were_renewed(
    start_program: StartProgram, tmp_path: Path, tls: TLSServer
) -> None:
    line = Line(start_program, tmp_path, tls.url(), "hookmill")
    receiver, worker = line.receiver(HOOKMILL_SPOOL=str(tmp_path / "spool")), line.worker()
    assert await line.send([line.order(1)]) == {200: 1}
    line.wait_for_handled(1)

    tls.certificate("client", "worker.example", is_client=True, has_expired=True)
    with redis.Redis.from_url(tls.plain.url) as client:
        client.client_kill_filter(_type="normal", skipme=True)
        worker.wait_for("certificate expired")
        assert await line.send([line.order(2)]) == {200: 1}  # it is spooled
        receiver.wait_for("refuses this program's certificate (ssl_certfile)")
        tls.certificate("client", "worker.example", is_client=True)
        line.wait_for_handled(2)
    assert worker.stop() == 0
    assert receiver.stop() == 0


@pytest.mark.parametrize("command", [("receiver",), ("worker", "ledger:handlers")])
@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"ssl_certfile": "", "ssl_keyfile": ""}, "refuses this program's certificate"),
        ({"ssl_ca_certs": ""}, "cannot be used with TLS: "),
    ],
    ids=["no certificate", "unknown authority"],
)
def test_a_program_with_wrong_certificates_ends_and_names_the_address(
    start_program: StartProgram,
    tmp_path: Path,
    tls: TLSServer,
    wrong: dict[str, str],
    says: str,
    command: tuple[str, ...],
) -> None:
    url = tls.url(login=":the-password@", **wrong)
    line = Line(start_program, tmp_path, url, "hookmill")
    program = start_program(*command, env=line.env)
    assert program.wait() == 2
    assert f"REDIS_URL: {NAME}:{tls.port} {says}" in program.log
    assert "the-password" not in program.log
