"""The official SDK for Python as a client, blocking or asynchronous."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import qstash

from tests.emulator.running import (
    Delivery,
    in_thread,
)
from tests.support import eventually

FAILING = (500, {"X-Why": "busy"}, b"not now")


class Sdk:
    """A client of either kind, called in the same way."""

    def __init__(self, client: Any, *, blocks: bool) -> None:
        self._client = client
        self._blocks = blocks

    async def __call__(self, called: str, /, *args: Any, **named: Any) -> Any:
        """Call `message.publish`, say."""
        call: Callable[..., Any] = self._client
        for name in called.split("."):
            call = getattr(call, name)
        return await (in_thread(call, *args, **named) if self._blocks else call(*args, **named))

    async def close(self) -> None:
        http = self._client.http._client  # the SDK has no way to close it
        await (in_thread(http.close) if self._blocks else http.aclose())


async def receiver(sdk: Sdk) -> qstash.Receiver:
    keys = await sdk("signing_key.get")
    return qstash.Receiver(keys.current, keys.next)


def verify(judge: qstash.Receiver, delivery: Delivery) -> None:
    judge.verify(
        signature=delivery.headers["Upstash-Signature"],
        body=delivery.body.decode(),
        url=delivery.url,
    )


async def dead(sdk: Sdk, count: int = 1) -> list[Any]:
    """Wait until the DLQ has this number of messages."""

    async def are_there() -> bool:
        return len((await sdk("dlq.list")).messages) >= count

    await eventually(are_there, what=f"{count} DLQ messages")
    return list((await sdk("dlq.list")).messages)
