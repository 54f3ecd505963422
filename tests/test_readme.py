"""The README tells the truth: its generated parts are current, its example runs."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import redis

from tests.e2e.line import Line
from tests.support import Program, Server

ROOT = Path(__file__).parent.parent


def test_the_generated_parts_of_the_readme_are_current() -> None:
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    generate = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generate)
    readme = (ROOT / "README.md").read_text()
    assert generate.generated(readme) == readme, "run `make docs`"


def test_every_file_the_documents_link_to_exists() -> None:
    for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        for target in re.findall(r"\]\(([^)#:]+)[^)]*\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_every_command_the_readme_names_exists() -> None:
    helped = subprocess.run(
        [sys.executable, "-m", "hookmill", "--help"], capture_output=True, text=True, check=True
    ).stdout
    named = set(
        re.findall(r"hookmill (receiver|worker|send|dev|dead)\b", (ROOT / "README.md").read_text())
    )
    assert {"receiver", "worker", "send", "dead"} <= named
    assert all(command in helped for command in named)


async def test_the_example_handles_what_the_readme_says_it_does(
    start_program: Callable[..., Program],
    tmp_path: Path,
    server: Server,
    prefix: str,
    redis_client: redis.Redis,
) -> None:
    (tmp_path / "handlers.py").write_text((ROOT / "examples" / "handlers.py").read_text())
    line = Line(start_program, tmp_path, server.url, prefix)
    receiver = line.receiver()
    worker = start_program("worker", "handlers:handlers", env=line.env)

    assert await line.send([line.order(7), line.post_published(8)]) == {200: 2}
    worker.wait_for('"handler":"send_receipt"')
    worker.wait_for('"handler":"rebuild_page"')
    line.wait_for_drained(redis_client)
    assert [worker.stop(), receiver.stop()] == [0, 0]
    assert "receipt for A-7, idempotency key msg_7" in worker.log


def test_every_test_that_the_guarantees_name_exists() -> None:
    page = (ROOT / "docs" / "guarantees.md").read_text()
    named = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", page)
    assert len(named) > 10
    for path, name in named:
        assert f"def {name}" in (ROOT / path).read_text(), f"{path}::{name}"
