"""Fixtures of the tests with whole programs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.line import Line
from tests.support import Program, Server


@pytest.fixture
def line(
    start_program: Callable[..., Program], tmp_path: Path, server: Server, prefix: str
) -> Line:
    return Line(start_program, tmp_path, server.url, prefix)
