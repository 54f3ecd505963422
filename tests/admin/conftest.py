"""Dead letters to try things on."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import pytest

from hookmill.admin.dead_letters import opened
from hookmill.config.settings import Settings
from hookmill.stream.dead_letters import DeadLetters
from tests.given_up import emptied, give_up

__all__ = ["emptied", "give_up", "letters"]


@pytest.fixture
async def letters(settings: Callable[..., Settings]) -> AsyncIterator[DeadLetters]:
    """The dead letters of the group `main`, opened as an operator's command does."""
    async with opened(settings()) as found:
        yield found
