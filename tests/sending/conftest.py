"""Senders that are closed at the end of a test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from hookmill import Sender
from tests.scripted import Scripted
from tests.sending.helpers import (
    QUICK,
    TOKEN,
    Open,
)


@pytest.fixture
async def sender_to() -> AsyncIterator[Open]:
    """Open senders for a scripted server; they are closed at the end."""
    opened: list[Sender] = []

    def open_one(server: Scripted | str, **options: Any) -> Sender:
        base = server if isinstance(server, str) else server.base
        given = {"token": TOKEN, "url": base, "retry_policy": QUICK, **options}
        opened.append(Sender(**given))
        return opened[-1]

    yield open_one
    for sender in opened:
        await sender.close()
