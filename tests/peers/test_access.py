"""Where Redis refuses a program: at its start that is a fault, later it is an outage that ends."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.e2e.line import Line
from tests.support import Program, Server, eventually, wait_until

OwnServer = Callable[..., Server]
StartProgram = Callable[..., Program]

PROGRAMS = [("receiver",), ("worker", "ledger:handlers")]

each_program = pytest.mark.parametrize("command", PROGRAMS, ids=["receiver", "worker"])


@each_program
@pytest.mark.parametrize(
    ("login", "says"),
    [
        (":wrong-one@", "refuses the login: invalid username-password pair or user is disabled."),
        ("", "refuses the login: Authentication required."),
    ],
    ids=["wrong password", "none"],
)
def test_a_refused_login_at_the_start_ends_the_program_and_names_the_address(
    own_server: OwnServer,
    start_program: StartProgram,
    tmp_path: Path,
    command: tuple[str, ...],
    login: str,
    says: str,
) -> None:
    """testomatio/app#1666: the program tries for ever, and nobody sees why nothing is done."""
    server = own_server()
    with redis.Redis.from_url(server.url) as client:
        client.config_set("requirepass", "right-one")
    address = f"127.0.0.1:{server.port}"
    line = Line(start_program, tmp_path, f"redis://{login}{address}/0", "hookmill")
    program = start_program(*command, env=line.env)
    assert program.wait() == 2
    assert f"REDIS_URL: {address} {says}" in program.log
    assert "wrong-one" not in program.log


@each_program
def test_a_database_that_there_is_not_ends_the_program(
    own_server: OwnServer, start_program: StartProgram, tmp_path: Path, command: tuple[str, ...]
) -> None:
    server = own_server("--databases", "1", "--save", "")
    line = Line(start_program, tmp_path, f"redis://127.0.0.1:{server.port}/7", "hookmill")
    program = start_program(*command, env=line.env)
    assert program.wait() == 2
    assert f"REDIS_URL: 127.0.0.1:{server.port} refuses the connection: " in program.log


async def test_a_server_of_another_protocol_ends_the_program(
    start_program: StartProgram, tmp_path: Path
) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1000)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    line = Line(start_program, tmp_path, f"redis://127.0.0.1:{port}", "hookmill")
    program = start_program("receiver", env=line.env)
    assert await asyncio.to_thread(program.wait) == 2
    assert f"REDIS_URL: 127.0.0.1:{port} does not speak the protocol of Redis" in program.log
    server.close()


def test_a_start_without_redis_is_one_warning_and_a_worker_does_not_say_that_it_works(
    own_server: OwnServer, start_program: StartProgram, tmp_path: Path
) -> None:
    server = own_server()
    server.kill()
    line = Line(start_program, tmp_path, server.url, "hookmill")
    receiver = line.receiver()
    worker = start_program("worker", "ledger:handlers", env=line.env)
    worker.wait_for("cannot take, trying again")
    assert '"working"' not in worker.log
    assert [program.log.count("Redis cannot be used yet") for program in (receiver, worker)] == [
        1,
        1,
    ]
    server.start()
    worker.wait_for('"working"')
    assert [receiver.stop(), worker.stop()] == [0, 0]


def test_an_outage_is_a_line_now_and_then_and_not_several_a_second(
    own_server: OwnServer, start_program: StartProgram, tmp_path: Path
) -> None:
    server = own_server()
    line = Line(start_program, tmp_path, server.url, "hookmill")
    worker = line.worker()
    server.kill()
    worker.wait_for("cannot take, trying again")
    began = time.monotonic()
    wait_until(lambda: time.monotonic() - began > 6)
    lines = Counter(row.partition('"event": ')[2][:30] for row in worker.log.splitlines())
    assert sum(lines.values()) <= 8, lines
    server.start()
    assert worker.stop() == 0


async def test_a_rotated_password_is_read_from_its_file_again(
    own_server: OwnServer, start_program: StartProgram, tmp_path: Path
) -> None:
    """testomatio/app#1666: after a rotation the program is stuck until it is started again."""
    server = own_server()
    url_file = tmp_path / "redis-url"
    with redis.Redis.from_url(server.url) as operator:
        operator.acl_setuser(
            "app", enabled=True, passwords=["+one"], keys="*", categories=["+@all"]
        )
        url_file.write_text(f"redis://app:one@127.0.0.1:{server.port}/0")
        line = Line(start_program, tmp_path, "", "hookmill")
        del line.env["REDIS_URL"]
        line.env["REDIS_URL_FILE"] = str(url_file)
        receiver, worker = line.receiver(), line.worker(HOOKMILL_LEASE="1", LEDGER_PAUSE="8")
        assert await line.send([line.order(1)]) == {200: 1}
        wait_until(lambda: line.noted("begin"))
        # Every connection ends, and none can be made with the old password.
        operator.acl_setuser("app", enabled=True, passwords=["-one", "+two"])
        operator.client_kill_filter(_type="normal", skipme=True)
        worker.wait_for("cannot renew leases")
        worker.wait_for("refuses the login")
        assert await line.send([line.order(2)]) == {503: 1}
        wait_until(lambda: refusals(operator) >= 2)
        began = time.monotonic(), refusals(operator)
        wait_until(lambda: time.monotonic() - began[0] > 4)
        assert (
            refusals(operator) - began[1] <= 40
        )  # a client each two seconds, leases three a second
        url_file.write_text(f"redis://app:two@127.0.0.1:{server.port}/0")
        wait_until(lambda: set(line.noted()) == {"msg_1"})

        async def is_accepted() -> bool:
            return await line.send([line.order(3)]) == {200: 1}

        await eventually(is_accepted, timeout=5)
    line.wait_for_handled(2)
    assert [receiver.stop(), worker.stop()] == [0, 0]
    assert set(line.noted("begin").values()) == {1}
    for program in (receiver, worker):
        assert "app:" not in program.log
        assert program.log.count('"level":"warning"') < 20


def refusals(client: redis.Redis) -> int:
    stats: Any = client.info("errorstats")
    return sum(each["count"] for name, each in stats.items() if "WRONGPASS" in name)
