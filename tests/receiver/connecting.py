"""How tests look at the connections of a receiver: which it knows, which it has closed, and why."""

from __future__ import annotations

import asyncio

from receiver.connections import SenderConnections
from tests.receiver.serving import Connect, Running, Wire, request_bytes
from tests.support import eventually

QUESTION = request_bytes(b"", target="/healthz", method="GET")
HEADER = b"X-Long: " + b"x" * 8000 + b"\r\n"


def tracked(running: Running) -> SenderConnections:
    return running.receiver._http._connections


def closed(running: Running) -> dict[str, int]:
    counts = running.receiver._pipeline.metrics._connections
    return {reason: number for (reason,), number in counts.items() if number}


async def is_open(wire: Wire) -> bool:
    """Return whether the receiver keeps a connection for a moment longer."""
    try:
        await asyncio.wait_for(wire.reader.read(), 0.2)
    except TimeoutError:
        return True
    except ConnectionError:
        pass
    return False


async def connected(running: Running, connect: Connect, number: int) -> Wire:
    """Open the connection of this number, and wait until the receiver knows it."""
    wire = await connect(running)
    await eventually(lambda: len(tracked(running)) == number)
    return wire


async def answered(running: Running, connect: Connect, number: int) -> Wire:
    wire = await connected(running, connect, number)
    await wire.send(QUESTION)
    assert (await wire.answer()).status == 200
    return wire


async def begun(running: Running, wire: Wire, sent: bytes) -> None:
    """Send a part of a request, and wait until the receiver is reading it."""
    before = running.receiver._http.in_flight
    await wire.send(sent)
    await eventually(lambda: running.receiver._http.in_flight == before + 1)
