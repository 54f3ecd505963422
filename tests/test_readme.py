"""The README tells the truth: its generated parts are current, its example runs."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import redis

from hookmill.config.secrets import variable_of
from hookmill.config.source_options import SourceOptions, spec_of
from hookmill.signatures.presets import PRESETS
from tests.e2e.line import Line
from tests.support import Program, Server

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("page", ["README.md", "docs/sources.md", "docs/sending.md"])
def test_the_generated_parts_are_current(page: str) -> None:
    text = (ROOT / page).read_text()
    assert generator().generated(text) == text, "run `make docs`"


def test_each_sender_has_a_section_that_can_be_pasted() -> None:
    page = (ROOT / "docs" / "sources.md").read_text()
    headings = re.findall(r"^### (.+)$", page, re.MULTILINE)
    assert headings == [
        "QStash",
        "Amazon SNS",
        "PayPal",
        *(preset.title for preset in PRESETS.values()),
    ]
    for name in PRESETS:
        assert f"\n[sources.{name}]" in page
        assert f"\n{variable_of(name)}=" in page
    anchors = {generator()._anchor(heading) for heading in headings}
    assert set(re.findall(r"\]\(#([^)]+)\)", page)) == anchors


def test_every_table_of_the_sources_page_is_one_that_the_settings_accept() -> None:
    page = (ROOT / "docs" / "sources.md").read_text()
    tables = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    assert len(tables) > len(PRESETS)
    for table in tables:
        for name, options in tomllib.loads(table)["sources"].items():
            spec_of(name, SourceOptions(**options))


def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    generate = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generate)
    return generate


def test_every_file_the_documents_link_to_exists() -> None:
    for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        for target in re.findall(r"\]\(([^)#:]+)[^)]*\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_every_command_the_readme_names_exists() -> None:
    helped = subprocess.run(
        [sys.executable, "-m", "hookmill", "--help"], capture_output=True, text=True, check=True
    ).stdout
    named = set(
        re.findall(
            r"hookmill (receiver|worker|send|dev|dead|verify|check|schema|qstash|status)\b",
            (ROOT / "README.md").read_text(),
        )
    )
    assert {"receiver", "worker", "send", "dead", "verify", "schema", "qstash"} <= named
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
