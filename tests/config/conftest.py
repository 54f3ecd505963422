"""A folder and an environment of its own for each test."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.config.support import SetEnv


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current directory, without a `hookmill.toml`."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def setenv(monkeypatch: pytest.MonkeyPatch) -> SetEnv:
    """Set variables for the rest of the test."""

    def set_all(**variables: str) -> None:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return set_all
