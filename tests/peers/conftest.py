"""What the tests of peers' failures start with: workers to start, and a view of Redis."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import redis

from tests.peers.view import View
from tests.peers.work import MakeSettings, Workers
from worker import janitor


@pytest.fixture
async def workers(settings: MakeSettings) -> AsyncIterator[Workers]:
    """Workers on the test's server; they are stopped at the end."""
    opened = Workers(settings)
    yield opened
    await opened.stop()


@pytest.fixture
def view(redis_client: redis.Redis, prefix: str) -> View:
    """The group `main` as the test's server shows it."""
    return View(redis_client, prefix)


@pytest.fixture
def busy_janitor(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the janitor do in moments what it does in hours."""
    monkeypatch.setattr(janitor, "PERIOD", 0.02)
    monkeypatch.setattr(janitor, "CONSUMER_IDLE", 0.0)
