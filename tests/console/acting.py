"""How the tests confirm what they ask a console to do."""

from __future__ import annotations

from typing import Any

from tests.console.browsing import Browser, Got
from tests.support import eventually


async def counted(
    browser: Browser, page: str = "/dead", to: str = "/dead/plan", **form: Any
) -> tuple[str, Got]:
    """Send the form of a page, and wait for the count; return the address of the question."""
    sent = await browser.send(page, to, **form)
    assert sent.status == 200, sent.visible
    return await ended(browser)


async def ended(browser: Browser) -> tuple[str, Got]:
    newest = list(browser.running.jobs._jobs.values())[-1]
    await eventually(lambda: not newest.is_running)
    return f"/jobs/{newest.id}", await browser.get(f"/jobs/{newest.id}")


async def confirmed(browser: Browser, address: str, page: Got, **form: str) -> Got:
    sent = await browser.post(f"{address}/confirm", {"csrf": page.csrf, **form})
    assert sent.status == 200, sent.visible
    return (await ended(browser))[1]
