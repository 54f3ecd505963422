"""The pages of README and docs, and the code blocks in them with their marks.

A mark is an HTML comment right before a block, so a reader of the page does not see it:

* `<!-- not run: WHY -->`: the block is not executed.
* `<!-- exits 1: WHY -->`: its last command ends with this status instead of 0.
* `<!-- file: NAME -->`: the block is the content of this file.
* `<!-- output -->`: the text that the programs of the page have written by then.
"""

from __future__ import annotations

import re
import textwrap
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent.parent
DOCS = ROOT / "docs"

PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")),
    *sorted(DOCS.rglob("*.md")),
]

_BLOCK = re.compile(
    r"(?:^[ ]*<!-- (?P<mark>[^\n]*?) -->\n)?"
    r"^(?P<indent>[ ]*)```(?P<language>[^\n]*)\n(?P<text>.*?)^[ ]*```[ ]*$",
    re.DOTALL | re.MULTILINE,
)


class Block(NamedTuple):
    """A fenced block; `line` is the number of its first line in the page."""

    page: Path
    line: int
    language: str
    mark: str
    text: str

    @property
    def why_not_run(self) -> str:
        return self._after("not run: ")

    @property
    def file(self) -> str:
        return self._after("file: ")

    @property
    def is_output(self) -> bool:
        return self.mark == "output"

    @property
    def is_run(self) -> bool:
        return self.language in {"sh", "python", "toml", "json"} and not self.why_not_run

    @property
    def exit_status(self) -> int:
        found = re.match(r"exits (\d): ", self.mark)
        return int(found[1]) if found else 0

    @property
    def where(self) -> str:
        return f"{name_of(self.page)}:{self.line}"

    def _after(self, word: str) -> str:
        return self.mark.removeprefix(word) if self.mark.startswith(word) else ""


def blocks_of(page: Path) -> list[Block]:
    text = page.read_text()
    return [
        Block(
            page,
            text.count("\n", 0, found.start("text")) + 1,
            found["language"],
            found["mark"] or "",
            textwrap.dedent(found["text"]),
        )
        for found in _BLOCK.finditer(text)
    ]


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def without_blocks(page: Path) -> str:
    return _BLOCK.sub("", page.read_text())


def runnable(*parts: str) -> list[Path]:
    """The pages that have blocks to be run, of the folders or files named."""
    return [
        page
        for page in PAGES
        if name_of(page).startswith(parts) and any(block.is_run for block in blocks_of(page))
    ]
