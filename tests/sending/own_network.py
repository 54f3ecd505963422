"""A program that sends in a network of its own, in which `unshare --net` starts it.

It gives the loopback device public addresses, sends to them, and prints what became of it as JSON.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys

from hookmill import SendError
from tests.sending.helpers import POST
from tests.sending.test_only_public import guarded

PUBLIC, PUBLIC_V6, PRIVATE = "198.41.0.4", "2620:fe::fe", "127.0.0.1"


async def main() -> dict[str, str | int]:
    private_connections = 0

    async def public(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        status = f"307 x\r\nLocation: http://{PRIVATE}:{port}/" if b"/redirect" in head else "204 x"
        writer.write(f"HTTP/1.1 {status}\r\nConnection: close\r\n\r\n".encode())
        await writer.drain()
        writer.close()

    async def private(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal private_connections
        private_connections += 1
        writer.close()

    async with (
        await asyncio.start_server(public, PUBLIC, 0) as first,
        await asyncio.start_server(public, PUBLIC_V6, first.sockets[0].getsockname()[1]),
        await asyncio.start_server(private, PRIVATE, first.sockets[0].getsockname()[1]),
    ):
        port = first.sockets[0].getsockname()[1]
        name = f"http://customer.example:{port}/hook"

        async def send(url: str, *answers: list[str]) -> str:
            async with guarded(*answers) as sender:
                return await outcome(sender.send(url, POST))

        found: dict[str, str | int] = {
            "a public address": await send(f"http://{PUBLIC}:{port}/hook"),
            "a public IPv6 address": await send(f"http://[{PUBLIC_V6}]:{port}/hook"),
        }
        async with guarded([PUBLIC], [PRIVATE]) as sender:
            found["a name"] = await outcome(sender.send(name, POST))
            # aiohttp remembers what a name leads to for ten seconds.
            sender._transport._open().connector.clear_dns_cache()  # type: ignore[union-attr] # open
            again = await outcome(sender.send(name, POST))
            found["the name again, at a private address"] = again
        found["a name with a private address first"] = await send(name, [PRIVATE, PUBLIC])
        found["a redirect to a private address"] = await send(f"http://{PUBLIC}:{port}/redirect")
        return {**found, "connections to private addresses": private_connections}


async def outcome(sending: object) -> str:
    try:
        await sending  # type: ignore[misc] # a coroutine
    except SendError as error:
        return type(error).__name__
    return "delivered"


if __name__ == "__main__":
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    for address in (f"{PUBLIC}/32", f"{PUBLIC_V6}/128"):
        subprocess.run(["ip", "address", "add", address, "dev", "lo"], check=True)
    sys.stdout.write(json.dumps(asyncio.run(main())))
