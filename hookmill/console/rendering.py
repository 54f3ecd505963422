"""Renders the pages' templates. Every value is escaped, whatever its template is called.

What a stranger chose is shown with escapes for all that does not show as itself, so that a page can
neither be steered by it nor fail because of it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from markupsafe import Markup

from hookmill.admin import units
from hookmill.errors import SettingsError
from hookmill.printable import printable

FOLDER = Path(__file__).parent

STATIC = {
    "console.css": "text/css",
    "console.js": "text/javascript",
    "favicon.svg": "image/svg+xml",
}
"""The files that pages load, and their types."""


class Exact(str):
    """A text that is written as it is, because a form sends it back. HTML is escaped as ever."""

    __slots__ = ()


class Renderer:
    """Renders templates. Raises `SettingsError` where the extra is not installed."""

    def __init__(self) -> None:
        try:
            from jinja2 import Environment, FileSystemLoader, StrictUndefined  # noqa: PLC0415 - an extra
        except ImportError:
            raise SettingsError(
                ["the console needs an extra: pip install hookmill[console]"]
            ) from None
        self.files = {name: (FOLDER / "static" / name).read_bytes() for name in STATIC}
        self._templates = Environment(
            loader=FileSystemLoader(FOLDER / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            finalize=_shown,
            auto_reload=False,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.filters.update(
            age=units.age,
            size=units.size,
            number=_number,
            exact=_exact,
            in_url=in_url,
            below=_below,
        )
        self._templates.globals["versions"] = {
            name: hashlib.sha256(text).hexdigest()[:12] for name, text in self.files.items()
        }

    def render(self, template: str, values: Mapping[str, Any]) -> str:
        """Return a page's text."""
        return self._templates.get_template(template).render(values)


def in_url(text: str) -> str:
    """Write any text as a part of a URL."""
    return quote(text.encode(errors="surrogatepass"), safe="")


def _shown(value: Any) -> Any:
    if isinstance(value, Markup):
        return value  # made by a template, whose values have come here before
    if isinstance(value, Exact):
        return value.encode("utf-8", "replace").decode()
    return printable(value, keep="\n\t") if isinstance(value, str) else value


def _exact(value: object) -> Exact:
    return Exact(value)


def _below(seconds: float | None) -> str:
    if seconds is None:
        return "none"
    return f"{seconds * 1000:.0f} ms" if seconds < 2 else units.age(seconds)


def _number(value: float | None) -> str:
    return "unknown" if value is None else f"{value:,}"
