"""The deployment files use only commands and settings that exist."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from hookmill.config.settings import Settings, variable_of
from tests.chaos.site import MALLOC
from worker.main import STOP_STEPS

ROOT = Path(__file__).parent.parent
DEPLOY = ROOT / "deploy"
VARIABLES = {variable_of(name) for name in Settings.model_fields}


def test_fly_runs_both_programs_and_asks_readiness() -> None:
    fly = tomllib.loads((DEPLOY / "fly.toml").read_text())
    assert fly["processes"] == {"receiver": "receiver", "worker": "worker handlers:handlers"}
    assert fly["http_service"]["processes"] == ["receiver"]
    assert fly["http_service"]["checks"][0]["path"] == "/readyz"
    assert fly["http_service"]["internal_port"] == int(fly["env"]["PORT"])
    assert set(fly["env"]) <= VARIABLES | MALLOC.keys()
    assert fly["env"].items() >= MALLOC.items()  # a soak judges the memory that programs have so
    assert fly["kill_timeout"] >= int(fly["env"]["HOOKMILL_SHUTDOWN"]) + 2 * STOP_STEPS


def test_compose_sets_only_variables_that_exist() -> None:
    compose = (DEPLOY / "compose.yaml").read_text()
    set_there = set(re.findall(r"^ +([A-Z][A-Z_]+):", compose, re.MULTILINE))
    assert {"REDIS_URL", "MARBLE_WEBHOOK_SECRET"} <= set_there <= VARIABLES
    grace = int(re.findall(r"stop_grace_period: (\d+)s", compose)[0])
    (shutdown,) = re.findall(r"HOOKMILL_SHUTDOWN: \"(\d+)\"", compose)
    assert grace >= int(shutdown) + 2 * STOP_STEPS
    assert "--appendonly yes" in compose
    assert "noeviction" in compose


def test_an_init_collects_the_processes_that_handlers_leave_behind() -> None:
    """A worker that was PID 1 had 50 zombies."""
    dockerfile = (DEPLOY / "Dockerfile").read_text()
    assert 'ENTRYPOINT ["tini", "-s", "--", "hookmill"]' in dockerfile
    assert "apt-get install -y --no-install-recommends tini " in dockerfile
    shared = (DEPLOY / "compose.yaml").read_text().partition("\nservices:")[0]
    assert "\n  init: true " in shared


def test_the_image_copies_what_the_package_needs() -> None:
    dockerfile = (DEPLOY / "Dockerfile").read_text()
    sources = re.findall(r"^COPY (?!--from)(.+) \S+$", dockerfile, re.MULTILINE)
    copied = [name for line in sources for name in line.split()]
    assert {"hookmill", "receiver", "worker", "locks/run.txt", "pyproject.toml"} <= set(copied)
    assert all((ROOT / name).exists() for name in copied)
    let_through = (DEPLOY / "Dockerfile.dockerignore").read_text()
    assert all(f"!{name}" in let_through for name in copied)
