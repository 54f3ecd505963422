"""Direct delivery to URLs that others chose: no URL reaches the sender's own network."""

from __future__ import annotations

import asyncio
import json
import shutil
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp.abc import AbstractResolver, ResolveResult

from hookmill import AddressRefusedError, Outgoing, Sender, SendError
from hookmill.errors import SettingsError
from tests.scripted import Scripted
from tests.sending.helpers import POST, QUICK, Open, failed


class Names(AbstractResolver):
    """Answers each question with the next list of addresses; the last one stays."""

    def __init__(self, *answers: list[str]) -> None:
        self.answers = list(answers)

    async def resolve(
        self,
        host: str,
        port: int = 0,
        family: int = 0,  # noqa: ARG002 - aiohttp gives it
    ) -> list[ResolveResult]:
        found = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
            for address in found
        ]

    async def close(self) -> None:
        pass


@asynccontextmanager
async def listener() -> AsyncIterator[tuple[int, list[str]]]:
    """A port on every address of this machine, and who connected to it."""
    seen: list[str] = []

    async def connected(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(str(writer.get_extra_info("sockname")))
        writer.close()

    with socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as everywhere:
        everywhere.setblocking(False)
        async with await asyncio.start_server(connected, sock=everywhere) as server:
            yield server.sockets[0].getsockname()[1], seen


def guarded(*answers: list[str]) -> Sender:
    sender = Sender(direct=True, only_public=True, retry_policy=QUICK)
    if answers:
        sender._transport._resolver = Names(*answers)
    return sender


HERE = [
    "127.0.0.1", "127.1", "2130706433", "0x7f000001", "0x7f.1", "0177.0.0.1", "017700000001",
    "127.0.0.1.", "0", "0.0.0.0", "127.255.255.254", "[::1]", "[::]", "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]", "[0:0:0:0:0:ffff:127.0.0.1]", "[::127.0.0.1]", "[64:ff9b::127.0.0.1]",
    "[2002:7f00:1::]", "[::1%25lo]", "localhost", "LOCALHOST",
]  # fmt: skip


async def test_no_spelling_of_an_address_of_this_machine_is_connected_to() -> None:
    async with listener() as (port, seen), guarded() as sender:
        for host in HERE:
            error = await failed(sender.send(f"http://{host}:{port}/hook", POST))
            assert isinstance(error, AddressRefusedError), host
            assert error.code == "address_refused"
            assert not error.may_be_published
            assert "after 1 attempt" in str(error)  # another attempt would end the same way
    assert seen == []


async def test_the_same_addresses_are_reached_without_the_guard() -> None:
    """So the listener of these tests would see a connection."""
    async with listener() as (port, seen), Sender(direct=True, retry_policy=QUICK) as sender:
        await failed(sender.send(f"http://127.0.0.1:{port}/hook", POST, retries=0))
        await failed(sender.send(f"http://localhost:{port}/hook", POST, retries=0))
    assert len(seen) >= 2


@pytest.mark.parametrize(
    "addresses",
    [
        ["127.0.0.1"],
        ["::1"],
        ["::ffff:127.0.0.1"],
        ["64:ff9b::7f00:1"],
        ["127.0.0.1", "::1", "0.0.0.0"],
        ["fe80::1%lo"],
    ],
)
async def test_a_name_that_leads_to_this_machine_is_not_connected_to(addresses: list[str]) -> None:
    async with listener() as (port, seen), guarded(addresses) as sender:
        error = await failed(sender.send(f"http://customer.example:{port}/hook", POST))
    assert isinstance(error, AddressRefusedError)
    assert seen == []


async def test_the_error_does_not_tell_what_a_name_of_ours_leads_to() -> None:
    async with guarded(["10.11.12.13"]) as sender:
        error = await failed(sender.send("http://intranet.example/hook?token=1", POST))
    assert str(error) == (
        "delivering to http://intranet.example/hook?...: it leads to no public address, "
        "after 1 attempt; nothing was accepted"
    )


async def test_a_refused_url_does_not_stop_the_others_of_send_many() -> None:
    async with guarded() as sender:
        results = await sender.send_many(
            [Outgoing("http://127.0.0.1/", POST), Outgoing("http://u@a.example/", POST)]
        )
    assert [type(one) for one in results] == [AddressRefusedError, AddressRefusedError]


async def test_a_proxy_of_the_environment_is_not_used(
    monkeypatch: pytest.MonkeyPatch, sender_to: Open
) -> None:
    """A proxy would connect to an address that nobody has checked."""
    async with listener() as (port, seen), Scripted() as server:
        for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{port}")
        await sender_to("", direct=True).send(server.base, POST)
        async with guarded() as sender:
            await failed(sender.send(f"{server.base}/hook", POST))
    assert len(server.calls) == 1
    assert seen == []


async def test_the_guard_is_for_direct_delivery() -> None:
    with pytest.raises(SettingsError, match="only_public needs direct=True"):
        Sender(token="t", url="http://127.0.0.1:1", only_public=True)


@pytest.mark.external
def test_public_addresses_are_reached_and_a_name_that_changes_is_judged_at_each_connection() -> (
    None
):
    """In a network of its own, whose loopback device has public addresses as well."""
    if not (shutil.which("unshare") and shutil.which("ip")):
        pytest.skip("ip and unshare are not installed")
    program = [sys.executable, "-m", "tests.sending.own_network"]
    try_it = subprocess.run(["unshare", "--net", "true"], capture_output=True, check=False)
    if try_it.returncode:
        pytest.skip("this user cannot make a network of its own")
    ran = subprocess.run(
        ["unshare", "--net", *program],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout) == {
        "a public address": "delivered",
        "a public IPv6 address": "delivered",
        "a name": "delivered",
        "the name again, at a private address": "AddressRefusedError",
        "a name with a private address first": "delivered",
        "a redirect to a private address": "SendError",
        "connections to private addresses": 0,
    }


def test_the_error_is_a_send_error() -> None:
    assert issubclass(AddressRefusedError, SendError)
