"""Dead letters to try things on, and a client of the test's server."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from hookmill.stream.client import Client
from tests.given_up import emptied, give_up
from tests.stream.partitioned import split
from tests.support import Server

__all__ = ["emptied", "give_up", "split"]


@pytest.fixture
async def client(server: Server) -> AsyncIterator[Client]:
    """A client of its own prefix."""
    opened = Client(server.url, "t")
    yield opened
    await opened.close()
