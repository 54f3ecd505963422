"""What a deployment file sets for a program, as that program reads it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from hookmill.config.settings import Settings, load_settings
from tests.support import MARBLE_SECRET

CONTENTS = {"REDIS_URL_FILE": "redis://user:pass@redis:6379/0"}
"""What a file holds that a variable names; any other holds a secret."""


def settings_of(
    given: Mapping[str, str], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> Settings:
    """Return the settings with these variables. Each file that one of them names is made below
    `folder`. Raise `SettingsError` if the program would not start.
    """
    monkeypatch.chdir(folder)
    for name, value in given.items():
        if name.endswith("_FILE"):
            path = folder / value.lstrip("/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(CONTENTS.get(name, MARBLE_SECRET))
            value = str(path)  # noqa: PLW2901 - the same variable, with a path that is here
        monkeypatch.setenv(name, value)
    return load_settings()
