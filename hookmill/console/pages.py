"""What a page is, apart from HTTP: it is asked, and gives what a template shows. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import urlencode

from hookmill.console.access import Viewer
from hookmill.errors import HookmillError


class Request(NamedTuple):
    """A request for a page: who asks, the values in the path, in the query and in a sent form."""

    viewer: Viewer
    path: str = "/"
    named: Mapping[str, str] = {}
    query: Mapping[str, str] = {}
    form: Mapping[str, list[str]] = {}

    def field(self, name: str) -> str:
        """Return a field of the form, "" if it is not there."""
        return next(iter(self.form.get(name, ())), "").strip()


class Shown(NamedTuple):
    """A page: its template, what the template shows, and what makes a browser load it again."""

    template: str
    values: Mapping[str, Any]
    live: str = ""
    status: int = 200


class Moved(NamedTuple):
    """The address of the page to go to, within the console."""

    to: str

    @classmethod
    def with_query(cls, path: str, query: Mapping[str, str]) -> Moved:
        """Move to a path with these values in its query, as far as they are not empty."""
        return cls(path + written({name: value for name, value in query.items() if value}))


Answer = Shown | Moved


class PageRefusedError(HookmillError):
    """A request cannot be answered with a page. `status` is that of HTTP."""

    code = "page_refused"

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


def written(query: Mapping[str, str]) -> str:
    """Write a query with its question mark, "" if it is empty."""
    text = urlencode(query, errors="surrogatepass")
    return f"?{text}" if text else ""
