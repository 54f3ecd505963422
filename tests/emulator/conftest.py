"""A running emulator and a subscriber, for tests that speak HTTP with them."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.emulator.running import (
    MAX_BODY,
    Emulator,
    Subscriber,
    run_emulator,
    subscriber,
)


@pytest.fixture
async def emulator() -> AsyncIterator[Emulator]:
    async with run_emulator(scale=0.001, max_body=MAX_BODY) as running:
        yield running


@pytest.fixture
async def inbox() -> AsyncIterator[Subscriber]:
    async with subscriber() as running:
        yield running
