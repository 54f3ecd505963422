"""Asks one of several servers, without waiting long for one that is silent."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from hookmill.errors import StreamUnavailableError
from hookmill.stream.connections import Command, Connections

ASK_TIMEOUT = 2.0
"""Seconds that a server has to answer."""

NEXT_AFTER = 0.2
"""Seconds after which the next server is asked, too."""


class ServerAnswer(NamedTuple):
    """A reply, and the URL of the server that has given it."""

    url: str
    reply: Any


async def first_answer(
    urls: Iterable[str], command: Command, url_file: Path | None
) -> ServerAnswer:
    """Ask servers in this order; return the first reply that says something. Raises
    `StreamUnavailableError` if there is none.
    """
    left = [*urls]
    asking: set[asyncio.Task[ServerAnswer]] = set()
    error = StreamUnavailableError("there is no server to ask")
    try:
        while left or asking:
            if left:
                ask = _ask(left.pop(0), command, url_file)
                asking.add(asyncio.create_task(ask, name="first answer"))
            done, asking = await asyncio.wait(
                asking,
                timeout=NEXT_AFTER if left else None,
                return_when=asyncio.FIRST_COMPLETED,
            )
            # All are looked at, because asyncio logs each error that nobody has looked at.
            failures = {task: task.exception() for task in done}
            for task, failed in failures.items():
                if not isinstance(failed, StreamUnavailableError):
                    return task.result()
                error = failed
        raise error.with_traceback(None)
    finally:
        for task in asking:
            task.cancel()
        if asking:
            await asyncio.wait(asking)


async def _ask(url: str, command: Command, url_file: Path | None) -> ServerAnswer:
    server = Connections(url, ASK_TIMEOUT, url_file=url_file)
    try:
        (reply,) = await server.ask([command])
        if isinstance(reply, Exception):
            raise StreamUnavailableError(f"{' '.join(map(str, command))}: {reply}")
        if not reply:
            raise StreamUnavailableError(f"{' '.join(map(str, command))}: it does not know")
        return ServerAnswer(url, reply)
    finally:
        await server.close()
