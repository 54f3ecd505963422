"""What the tests of the deployment files read."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parent.parent.parent
DEPLOY = ROOT / "deploy"


def compose(name: str = "compose.yaml") -> dict[str, Any]:
    """A compose file, with its shared parts merged into each service."""
    loaded: dict[str, Any] = yaml.safe_load((DEPLOY / name).read_text())
    return loaded


def fly() -> dict[str, Any]:
    return tomllib.loads((DEPLOY / "fly.toml").read_text())


def instructions(dockerfile: str) -> list[list[tuple[str, str]]]:
    """The instructions of each stage of a Dockerfile: the word, and what follows it."""
    stages: list[list[tuple[str, str]]] = []
    for line in (DEPLOY / dockerfile).read_text().splitlines():
        if not line or line.startswith("#"):
            continue
        word, _, rest = line.partition(" ")
        if word == "FROM":
            stages.append([])
        stages[-1].append((word, rest))
    return stages
