"""Decides in which wire version the receiver writes: in the one that costs less only while every
worker reads it.

It looks from time to time. A worker that starts between two looks and does not read that version
keeps the message until another one takes it, or until its grace period is over.
"""

from __future__ import annotations

from collections.abc import Callable

import structlog

from hookmill.errors import GroupLostError, StreamUnavailableError
from hookmill.message import PACKED_VERSION, SAFE_VERSION
from hookmill.stream.client import Client
from hookmill.stream.wire_readers import WireReaders
from receiver.background import BackgroundTask

log = structlog.get_logger("receiver")

PERIOD = 2.0
"""Seconds between two looks."""


class WireVersionWatch:
    """`start` it, `stop` it. It calls `on_change` when another `version` is to be written. `lease`
    is in seconds.
    """

    def __init__(self, client: Client, lease: float, on_change: Callable[[int], None]) -> None:
        self._readers = WireReaders(client, lease)
        self._task = BackgroundTask("wire version", self.look, PERIOD)
        self._on_change = on_change
        self.version = SAFE_VERSION

    def start(self) -> None:
        """Look from time to time."""
        self._task.start()

    async def stop(self) -> None:
        """End; a second call does nothing."""
        await self._task.stop()

    async def look(self) -> None:
        """Look once. Where that fails, nobody knows who reads what."""
        version = SAFE_VERSION
        try:
            if PACKED_VERSION in await self._readers.versions():
                version = PACKED_VERSION
        except (StreamUnavailableError, GroupLostError):
            pass  # if Redis is away, other parts of the receiver say so
        finally:
            if version != self.version:
                log.info("messages are written in another wire version", version=version)
                self.version = version
                self._on_change(version)
