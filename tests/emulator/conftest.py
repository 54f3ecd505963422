"""A running emulator and a subscriber, for tests that speak HTTP with them."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import qstash

from tests.emulator.python_sdk import Sdk
from tests.emulator.running import (
    MAX_BODY,
    TOKEN,
    Emulator,
    Subscriber,
    run_emulator,
    subscriber,
)


@pytest.fixture
async def emulator() -> AsyncIterator[Emulator]:
    """An emulator whose waits are a thousandth: retries after 12 ms, 148 ms and 2 s."""
    async with run_emulator(scale=0.001, max_body=MAX_BODY) as running:
        yield running


@pytest.fixture
async def inbox() -> AsyncIterator[Subscriber]:
    async with subscriber() as running:
        yield running


@pytest.fixture(params=["sync", "async"])
async def sdk(request: pytest.FixtureRequest, emulator: Emulator) -> AsyncIterator[Sdk]:
    """The SDK's client for the emulator, of each kind."""
    blocks = request.param == "sync"
    kind = qstash.QStash if blocks else qstash.AsyncQStash
    made = Sdk(kind(TOKEN, retry=False, base_url=emulator.url), blocks=blocks)
    yield made
    await made.close()
