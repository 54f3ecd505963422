"""mypy and pyright find the mistakes that a user can make, and report nothing else."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "tests" / "typing"
FILE = FOLDER / "expected_errors.py"

Errors = dict[int, str]
"""The error of a checker for each line number."""


def mypy() -> Errors:
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--output=json", str(FILE)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    found = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert found, done.stdout + done.stderr
    return {
        error["line"]: f"{Path(error['file']).name}: {error['message']}"
        for error in found
        if error["severity"] == "error"
    }


def pyright() -> Errors:
    # basedpyright is pyright with Node.js in its wheels, so a run downloads nothing.
    done = subprocess.run(
        [
            *(sys.executable, "-m", "basedpyright", "--outputjson"),
            *("--project", str(FOLDER), "--pythonpath", sys.executable),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    found = json.loads(done.stdout)["generalDiagnostics"]
    return {
        error["range"]["start"]["line"] + 1: f"{Path(error['file']).name}: {error['message']}"
        for error in found
        if error["severity"] == "error"
    }


@pytest.mark.parametrize("check", [mypy, pyright])
def test_exactly_the_marked_lines_are_refused(check: Callable[[], Errors]) -> None:
    found = check()
    source = FILE.read_text().splitlines()
    mark = re.compile(rf"  # error( \({check.__name__}\))?$")
    marked = {n for n, line in enumerate(source, 1) if mark.search(line)}

    assert len(marked) > 30
    missed = [f"{n}: {source[n - 1]}" for n in sorted(marked - found.keys())]
    wrong = [f"{n}: {source[n - 1]}\n    {found[n]}" for n in sorted(found.keys() - marked)]
    assert not missed, "not refused:\n" + "\n".join(missed)
    assert not wrong, "refused:\n" + "\n".join(wrong)
