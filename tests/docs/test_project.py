"""What the pages, the hooks and the package's metadata name exists in the project."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from collections import Counter

import pytest

from hookmill.errors import DOCS_URL
from tests.docs.pages import DOCS, PAGES, ROOT, name_of

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
BLOB = f"{PROJECT['urls']['Source']}/blob/main/"


def test_each_link_into_the_repository_leads_to_a_file() -> None:
    texts = [page.read_text() for page in PAGES] + list(PROJECT["urls"].values())
    targets = re.findall(rf"{re.escape(BLOB)}([\w./-]+)", "\n".join(texts))
    assert len(targets) > 4
    for target in targets:
        assert (ROOT / target).exists(), target


def test_each_message_that_refers_to_a_page_names_one_that_exists() -> None:
    assert f"{DOCS_URL}/" == f"{BLOB}docs/"
    named = 0
    for folder in ("hookmill", "receiver", "worker"):
        for path in (ROOT / folder).rglob("*.py"):
            for page in re.findall(r"""\bsee\(["']([^"']+)["']\)""", path.read_text()):
                assert (DOCS / page).exists(), f"{path}: {page}"
                named += 1
    assert named


def test_each_module_and_script_that_a_page_names_exists() -> None:
    signatures, scripts = (ROOT / "hookmill" / name for name in ("signatures", "stream/scripts"))
    for page in PAGES:
        for name in re.findall(r"`([\w/]+\.(?:py|lua))(?:::\w+)?`", page.read_text()):
            folders = [ROOT, ROOT / "hookmill", scripts]
            if page.name == "signatures.md":
                folders.append(signatures)
            if name in {"handlers.py", "worker.py"}:  # a user's own
                continue
            assert any((folder / name).exists() for folder in folders), f"{name_of(page)}: {name}"


def test_the_metadata_names_what_an_index_shows() -> None:
    assert set(PROJECT["urls"]) == {"Documentation", "Changelog", "Source", "Issues"}
    assert PROJECT["authors"]
    assert PROJECT["version"] in (ROOT / "CHANGELOG.md").read_text()


def test_each_commit_hook_calls_a_tool_of_the_projects_own_environment() -> None:
    hooks = (ROOT / ".pre-commit-config.yaml").read_text()
    entries = re.findall(r"entry: (\S+)(.*)", hooks)
    assert len(entries) >= 5
    assert re.findall(r"repo: (\S+)", hooks) == ["local"]
    checked = (ROOT / "Makefile").read_text()
    for program, options in entries:
        folder, _, name = program.rpartition("/")
        assert folder == ".venv/bin"
        assert f"$(BIN)/{name}{options.removesuffix(' --check')}" in checked


def test_the_hook_for_generated_parts_finds_them_current() -> None:
    command = [sys.executable, "docs/generate.py", "--check"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr


def test_the_changelog_sorts_each_release_by_kind_of_change() -> None:
    text = (ROOT / "CHANGELOG.md").read_text()
    releases = re.split(r"^## ", text, flags=re.MULTILINE)[1:]
    for release in releases:
        kinds = re.findall(r"^### (.+)$", release, re.MULTILINE)
        assert set(kinds) <= {"Added", "Changed", "Fixed", "Removed", "Security"}
        assert kinds == sorted(kinds)
        assert re.match(r"\d+\.\d+\.\d+( \((unreleased|\d{4}-\d\d-\d\d)\))?\n", release)


def test_each_page_of_the_site_has_one_title() -> None:
    for page in DOCS.rglob("*.md"):
        without_code = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
        assert len(re.findall(r"^# ", without_code, re.MULTILINE)) == 1, page


# Written by hand. Other pages repeat lines, because they are generated or show results.
WRITTEN_BY_HAND = [
    *("CHANGELOG.md", "README.md", "docs/explanation/guarantees.md"),
    *("docs/reference/redis-keys.md", "docs/reference/glossary.md"),
]


@pytest.mark.parametrize("name", WRITTEN_BY_HAND)
def test_no_line_and_no_row_stands_twice_in_a_page(name: str) -> None:
    lines = (ROOT / name).read_text().splitlines()
    titles = [line.split("|")[1] for line in lines if line.startswith("| ")]
    named = [title for title in titles if title.strip() not in {"field", "note", "key"}]
    for found in [line for line in lines if len(line) >= 60], named:
        assert [text for text, times in Counter(found).items() if times > 1] == []
