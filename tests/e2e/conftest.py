"""Fixtures of the tests with whole programs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.line import Line
from tests.support import Program, Server
from tests.worker.processes import WorkerProcesses


@pytest.fixture
def line(
    prefix: str, start_program: Callable[..., Program], tmp_path: Path, server: Server
) -> Line:
    """A line under the test's prefix. The prefix comes first, so it is cleaned last: a program that
    still ran would write its keys again.
    """
    return Line(start_program, tmp_path, server.url, prefix)


@pytest.fixture
def processes(
    own_server: Callable[..., Server], start_program: Callable[..., Program], tmp_path: Path
) -> WorkerProcesses:
    return WorkerProcesses(own_server(), start_program, tmp_path)
