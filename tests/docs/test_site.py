"""The site is built without a warning, can be searched, and loads nothing from other hosts."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.pages import DOCS, PAGES, ROOT, name_of, without_blocks

STRICT = ("--nitpicky", "--fail-on-warning", "--keep-going", "--quiet")


def build(source: Path, target: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "sphinx", *STRICT, str(source), str(target)]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    built = build(DOCS, folder)
    assert built.returncode == 0, built.stderr
    return folder


def test_make_docs_builds_as_strictly_as_this_test() -> None:
    makefile = (ROOT / "Makefile").read_text()
    assert f"-m sphinx {' '.join(STRICT)} docs $(SITE)" in makefile
    assert ".docs/" in (ROOT / ".gitignore").read_text().splitlines()


def test_every_page_is_built_and_can_be_found_by_its_words(site: Path) -> None:
    index = (site / "searchindex.js").read_text()
    for page in sorted(DOCS.rglob("*.md")):
        name = page.relative_to(DOCS).with_suffix("")
        assert (site / f"{name}.html").exists(), name
        assert f'"{name}"' in index, name
    assert "idempot" in index  # words are searched by their stems


def test_no_page_loads_anything_from_another_host(site: Path) -> None:
    for page in site.rglob("*.html"):
        for tag in re.findall(r"<(?:script|link|img|iframe|source)\b[^>]*>", page.read_text()):
            assert not re.search(r"""(?:src|href)\s*=\s*["']?(?:https?:)?//""", tag), (page, tag)
    for sheet in site.rglob("*.css"):
        assert not re.search(r"(?:url\(|@import)\s*[\"']?(?:https?:)?//", sheet.read_text()), sheet


@pytest.mark.parametrize(
    ("link", "status"),
    [
        ("[x](other.md#other)", 0),
        ("[x](missing.md)", 1),
        ("[x](other.md#missing)", 1),
        ("[x](#missing)", 1),
        ("{py:class}`missing.X`", 1),
    ],
)
def test_a_link_to_nothing_fails(link: str, status: int, tmp_path: Path) -> None:
    (tmp_path / "conf.py").write_text((DOCS / "conf.py").read_text().replace(
        "Path(__file__).parent.parent", repr(ROOT).removeprefix("Posix")
    ).replace('html_theme = "furo"', ""))  # fmt: skip
    (tmp_path / "other.md").write_text("---\norphan: true\n---\n# Other\n")
    (tmp_path / "index.md").write_text(f"# Page\n\n{link}\n")
    assert build(tmp_path, tmp_path / "site").returncode == status


@pytest.mark.parametrize("page", [page for page in PAGES if page.parent == ROOT], ids=name_of)
def test_every_link_of_a_page_outside_of_the_site_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", without_blocks(page)):
        if target.startswith("https://"):
            continue
        path, _, anchor = target.partition("#")
        linked = page.parent / path if path else page
        assert linked.exists(), f"{page.name}: {target}"
        assert not anchor or anchor in anchors_of(linked), f"{page.name}: {target}"


def anchors_of(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", without_blocks(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", one.lower()).replace(" ", "-") for one in headings}
