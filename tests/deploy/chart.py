"""The chart of Helm: its rendered forms, which are kept because Helm is on few machines.

After a change of the chart: `python -m tests.deploy.chart`, with Helm 3 or 4 on the PATH.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from tests.deploy.reading import DEPLOY

CHART = DEPLOY / "helm" / "hookmill"
FOLDER = Path(__file__).parent / "helm"

KEPT = ("everything", "scaled")
"""The values whose rendered form is kept; the others are rendered where Helm is."""

Manifest = dict[str, Any]


def digest() -> str:
    """A sum of the chart's files, by which a rendered form says of which chart it is."""
    found = hashlib.sha256()
    for path in sorted(CHART.rglob("*")):
        if path.is_file():
            found.update(f"{path.relative_to(CHART)}\0".encode() + path.read_bytes())
    return found.hexdigest()[:16]


def values(name: str) -> Path:
    return FOLDER / f"{name}.values.yaml"


def rendered(name: str) -> Path:
    return FOLDER / f"{name}.rendered.yaml"


def helm(*words: str | Path) -> str:
    """Run Helm, and return what it writes. Raise `CalledProcessError` with its error."""
    program = shutil.which("helm")
    assert program is not None
    done = subprocess.run([program, *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise subprocess.CalledProcessError(done.returncode, words, done.stdout, done.stderr)
    return done.stdout


def render(name: str) -> str:
    return helm("template", "shop", CHART, "--namespace", "hooks", "--values", values(name))


def manifests(text: str) -> list[Manifest]:
    return [each for each in yaml.safe_load_all(text) if each]


if __name__ == "__main__":
    for each in KEPT:
        head = f"# Rendered from the chart {digest()} by: python -m tests.deploy.chart\n"
        rendered(each).write_text(head + render(each))
        sys.stdout.write(f"wrote {rendered(each).name}\n")
