"""What tests of the settings share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hookmill.config.settings import load_settings
from hookmill.errors import SettingsError

SetEnv = Callable[..., None]


def write_toml(text: str) -> None:
    Path("hookmill.toml").write_text(text)


def faults(**overrides: Any) -> list[str]:
    """Return what `load_settings` finds wrong."""
    with pytest.raises(SettingsError) as caught:
        load_settings(**overrides)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None  # a chained error would show the input, secrets and all
    return list(caught.value.faults)


def settings_of(
    monkeypatch: pytest.MonkeyPatch, folder: Path, toml: str = "", **variables: str
) -> Any:
    """Read the settings of this `hookmill.toml` and these variables."""
    (folder / "hookmill.toml").write_text(toml)
    monkeypatch.chdir(folder)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return load_settings()
