"""Scripts that log, each in a process of its own, because logging is set up once for a process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from textwrap import dedent
from typing import Any

# Logging is set up once for a process, so each script here has a process of its own.
START = """
import logging, sys, threading
import structlog
from hookmill.runtime.logs import configure_logs

log = structlog.get_logger("test")
"""


def run(script: str, **env: str) -> subprocess.CompletedProcess[bytes]:
    done = subprocess.run(
        [sys.executable, "-c", START + dedent(script)],
        env={"PATH": os.environ["PATH"], **env},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    return done


def lines(script: str, **env: str) -> list[dict[str, Any]]:
    """Run a script and return its log, less the times, which are checked for being there."""
    done = run(script, **env)
    assert done.stderr == b""
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert all(line.pop("timestamp").endswith("Z") for line in found)
    return found
