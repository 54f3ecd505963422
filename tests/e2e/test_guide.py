"""The guide's example: the event is delayed, fails twice, is verified, and is handled once."""

from __future__ import annotations

import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "guide.py"


@pytest.fixture(scope="module")
def output() -> str:
    done = subprocess.run(
        [sys.executable, str(EXAMPLE)], capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_event_arrives_at_the_third_attempt_and_is_handled_once(output: str) -> None:
    said = [re.sub(r"\d+ s: ", "N s: ", line) for line in output.splitlines() if ": " in line]
    handled = "handled: /hello is rebuilt, attempt 1"
    # The worker may print its line before the example prints the answer to the same attempt.
    assert sorted(said) == sorted(
        [
            "published: post.published, to be delivered in 5 s",
            "after N s: retried 0, answered 503",
            "after N s: retried 1, answered 503",
            "after N s: retried 2, answered 200",
            handled,
        ]
    )
    assert said.index(handled) >= 3


def test_no_attempt_comes_before_the_delay_and_the_backoff_have_passed(output: str) -> None:
    times = [int(number) for number in re.findall(r"after (\d+) s", output)]
    assert times[0] >= 5
    waits = [later - earlier for earlier, later in pairwise(times)]
    # The waits are e^(2.5 n) seconds. 2 seconds less are allowed, because both times are rounded.
    assert waits[0] >= 12 - 2
    assert waits[1] >= 148 - 2
