"""A small browser for the tests: it keeps cookies, reads forms, and sends them."""

from __future__ import annotations

import html
import re
from typing import Any, NamedTuple

import aiohttp

from hookmill.console.console import Console

OPERATOR = "operator-token-of-the-tests"
READER = "reader-token-of-the-tests"


class Got(NamedTuple):
    """An answer: its status, its text, its headers."""

    status: int
    text: str
    headers: Any

    @property
    def csrf(self) -> str:
        """What the forms of the page carry."""
        found = re.search(r'name="csrf" value="([^"]*)"', self.text)
        return html.unescape(found[1]) if found else ""

    @property
    def visible(self) -> str:
        """The text of the page without its tags."""
        return html.unescape(re.sub(r"<[^>]*>", " ", self.text))


class Browser:
    """A browser on one console."""

    def __init__(self, http: aiohttp.ClientSession, base: str, running: Console) -> None:
        self.http = http
        self.base = base
        self.running = running

    async def get(self, path: str, *, follow: bool = True, **headers: Any) -> Got:
        asked = self.http.get(self.base + path, headers=_named(headers), allow_redirects=follow)
        async with asked as response:
            return Got(response.status, await response.text(), response.headers)

    async def post(
        self, path: str, form: Any = None, *, follow: bool = True, **headers: Any
    ) -> Got:
        asked = self.http.post(
            self.base + path, data=form or {}, headers=_named(headers), allow_redirects=follow
        )
        async with asked as response:
            return Got(response.status, await response.text(), response.headers)

    async def log_in(self, token: str, name: str = "") -> Got:
        return await self.post("/login", {"token": token, "name": name}, follow=False)

    async def send(self, page: str, path: str, **form: Any) -> Got:
        """Send a form of a page, with what its forms carry."""
        seen = await self.get(page)
        return await self.post(path, {"csrf": seen.csrf, **form})


def _named(headers: dict[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in headers.items()}
