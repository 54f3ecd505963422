"""How Sphinx builds this folder into a site: `make docs`. Pages are Markdown (MyST)."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

_PROJECT = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())["project"]

project = "Hookmill"
author = "The Hookmill developers"
copyright = author  # noqa: A001 - Sphinx reads this name
release = version = _PROJECT["version"]

extensions = ["myst_parser", "sphinx.ext.autodoc"]

# The theme brings its own files; no page loads anything from another host.
html_theme = "furo"
html_title = f"Hookmill {release}"
html_copy_source = False
html_show_copyright = False

# `[text](page.md#heading)` works for headings of these levels, and is checked.
myst_heading_anchors = 4
myst_enable_extensions = ["colon_fence"]

default_role = "code"  # docstrings write `name`
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # the signature would name private types of other libraries
nitpicky = True
# The base classes of exceptions and structs, which the API page names but does not describe.
nitpick_ignore_regex = [("py:.*", r"(Exception|msgspec\..*|hookmill\..*|_.*|typing\..*|Generic)")]


def setup(app: Any) -> None:
    """Read docstrings as they are written: plain sentences with `code`, not reStructuredText."""
    app.connect("autodoc-process-docstring", _escape)


def _escape(*args: Any) -> None:
    lines: list[str] = args[-1]
    for number, line in enumerate(lines):
        pieces = re.split(r"(`[^`]*`)", line)
        lines[number] = "".join(
            piece if piece.startswith("`") else re.sub(r"([*|]|_\b)", r"\\\1", piece)
            for piece in pieces
        )
