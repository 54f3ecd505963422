"""What runs a page's code blocks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.docs.runner import Runner
from tests.support import Server


@pytest.fixture
def runner(
    tmp_path: Path, own_server: Callable[..., Server], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Runner]:
    """A folder, a server and an environment for a page."""
    folder = tmp_path / "page"
    folder.mkdir()
    monkeypatch.chdir(folder)
    made = Runner(folder, own_server().url)
    yield made
    made.close()
