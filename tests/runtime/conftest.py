"""Supervisors of processes that cost little to start."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.runtime.supervising import Supervising


@pytest.fixture
def supervise(tmp_path: Path) -> Iterator[Callable[..., Supervising]]:
    started: list[Supervising] = []

    def start(*command: str, **fields: Any) -> Supervising:
        started.append(Supervising(tmp_path, [*command], **fields))
        return started[-1]

    yield start
    for one in started:
        one.stop()
