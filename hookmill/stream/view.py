"""The whole stream as an operator sees it, on one server or on all nodes of a Redis Cluster.

A node that does not answer must not hide the others. So it is found out at the beginning which
partitions can be asked; whoever looks leaves the others out, and says so.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from hookmill.errors import StreamUnavailableError
from hookmill.runtime.tasks import cancel_and_wait
from hookmill.stream.client import Client, checked
from hookmill.stream.keys import Keys
from hookmill.stream.moving import MovingConnections
from hookmill.stream.reply_errors import RightMissingError

LOOK_TIMEOUT = 2.0
"""Seconds within which a node has to answer, in order to be asked more."""

FRESH_FOR = 1.0
"""Seconds for which it counts who answered."""


async def open_view(
    url: str, prefix: str, expected: int = 1, url_file: Path | None = None
) -> Client:
    """Open a stream with the number of partitions that it was made with. `expected` is the number
    of the settings: in a cluster it helps where the node that knows the number does not answer.
    """
    client = Client(url, prefix, partitions=expected, url_file=url_file)
    try:
        found = await _agreed(client)
        if (found or 1) != expected:
            await client.close()
            client = Client(
                url, prefix, partitions=found or 1, url_file=url_file, cluster=client.cluster
            )
        await look_around(client)
    except BaseException:
        await client.close()
        raise
    return client


async def look_around(client: Client, fresh_for: float = FRESH_FOR) -> None:
    """Find out which partitions of a cluster can be asked now: `client.unseen` has the others, and
    commands about them fail at once. Raise `StreamUnavailableError` if there is none. One server is
    not asked.
    """
    if not client.is_cluster or time.monotonic() - client.looked_at < fresh_for:
        return
    numbers = range(len(client.partitions))
    errors = await asyncio.gather(*(_error_of(client, number) for number in numbers))
    client.unseen = {number: error for number, error in enumerate(errors) if error is not None}
    client.looked_at = time.monotonic()
    if len(client.unseen) == len(numbers):
        checked(client.unseen[0])  # it raises


def leave_out(client: Client, number: int, error: StreamUnavailableError) -> None:
    """Note that a partition of a cluster does not answer any more."""
    server = client.servers[number]
    assert isinstance(server, MovingConnections)  # noqa: S101 - those of a cluster are
    where = f" of {server.address[0]}:{server.address[1]}" if server.address else ""
    server.silent = client.unseen[number] = StreamUnavailableError(
        f"partition {client.numbers[number]}{where} cannot be asked: {error}"
    )


def seen(client: Client) -> list[tuple[int, Keys]]:
    """Return the partitions that can be asked, with their numbers."""
    return [each for each in enumerate(client.partitions) if each[0] not in client.unseen]


def first_seen(client: Client) -> int:
    """Return the number of the first partition that can be asked."""
    return next((number for number, _ in seen(client)), 0)


async def need_all(client: Client) -> None:
    """Raise `StreamUnavailableError` if a partition of a cluster cannot be asked: for what has to
    be done in all of them.
    """
    await look_around(client)
    for error in client.unseen.values():
        raise StreamUnavailableError(
            f"{error}. This is to be done in all partitions, so nothing was done: try again when "
            "the node is well, or another has taken its place"
        )


async def _error_of(client: Client, number: int) -> StreamUnavailableError | None:
    """Ask for something that each partition knows; return why it was not told."""
    server = client.servers[number]
    assert isinstance(server, MovingConnections)  # noqa: S101 - those of a cluster are
    server.silent = None
    key = client.partitions[number].stream
    try:
        async with asyncio.timeout(LOOK_TIMEOUT):
            (reply,) = await server.ask([("EXISTS", key)])
    except TimeoutError:
        await server.drop()  # a reply that comes late must find nobody
        reply = StreamUnavailableError(f"no answer within {LOOK_TIMEOUT:g} s")
    except StreamUnavailableError as error:
        reply = error.with_traceback(None)
    if not isinstance(reply, StreamUnavailableError) or isinstance(reply, RightMissingError):
        return None
    leave_out(client, number, reply)
    return client.unseen[number]


async def _agreed(client: Client) -> int | None:
    """Return the number of partitions that the stream was made with. In a cluster each lane has a
    copy of it.
    """
    if not client.is_cluster:
        return await client.agreed_partitions()
    asking = asyncio.create_task(_noted(client), name="partitions")
    try:
        await look_around(client)
    except StreamUnavailableError:
        await cancel_and_wait([asking])
        raise
    try:
        return await asking
    except StreamUnavailableError as error:
        for number, keys in seen(client):
            if found := await client.execute(number, "GET", keys.partitions):
                return int(found)
        raise StreamUnavailableError(
            f"the node that knows the number of partitions does not answer ({error}), and no other "
            "one knows it: set HOOKMILL_PARTITIONS to the number that receivers and workers have"
        ) from None


async def _noted(client: Client) -> int | None:
    try:
        async with asyncio.timeout(LOOK_TIMEOUT):
            return await client.agreed_partitions()
    except TimeoutError:
        raise StreamUnavailableError(f"no answer within {LOOK_TIMEOUT:g} s") from None
