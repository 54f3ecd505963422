"""The console in a real browser: Debian's Chromium, on a running receiver and worker.

One run has all of it, because a browser and three programs take long to start. With
HOOKMILL_TEST_SCREENSHOTS=1 it also writes the pictures of the documentation.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
import tarfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import redis
from aiohttp import web

from hookmill.debug.simulate import deliver
from hookmill.signatures.marble import marble_scheme
from tests.console.browsing import OPERATOR, READER
from tests.ports import free_port
from tests.support import MARBLE_SECRET, Program, Server, eventually

playwright = pytest.importorskip("playwright.async_api", reason="needs playwright")

CHROMIUM = shutil.which("chromium")
IMAGES = Path(__file__).parent.parent.parent / "docs" / "images"
WRITES_IMAGES = os.environ.get("HOOKMILL_TEST_SCREENSHOTS") == "1"
PATIENCE = 60_000
"""Milliseconds: a busy machine is slow."""

HANDLERS = """
from pathlib import Path
from hookmill import Dead, Delivery, Handlers, Message

handlers = Handlers()

@handlers.on("post.*")
async def rebuild_page(delivery: Delivery[Message]) -> None:
    if Path("broken").exists():
        raise Dead("the search index is <b>read-only</b>")
"""

AXE = "async () => { const found = await axe.run(); return found.violations; }"

pytestmark = [
    pytest.mark.external,
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed"),
]


class Site:
    """Redis, a receiver, a worker and a console, as real processes."""

    def __init__(self, start: Callable[..., Program], server: Server, folder: Path) -> None:
        (folder / "doing.py").write_text(HANDLERS)
        self.broken = folder / "broken"
        self.broken.touch()
        self.redis = server
        port = free_port()
        env = {"REDIS_URL": server.url, "HOOKMILL_LEASE": "2", "HOOKMILL_HOST": "127.0.0.1"}
        secret = {"MARBLE_WEBHOOK_SECRET": MARBLE_SECRET, "PORT": str(port)}
        self.receiver = start("receiver", env=env | secret)
        self.worker = start("worker", "doing:handlers", env=env)
        tokens = {"HOOKMILL_CONSOLE_TOKEN": OPERATOR, "HOOKMILL_CONSOLE_READER_TOKEN": READER}
        self.console_port = free_port()
        port_option = ("--port", str(self.console_port))
        self.console = start("console", *port_option, env=env | tokens)
        self.url = f"http://127.0.0.1:{port}/marble"
        self.base = f"http://127.0.0.1:{self.console_port}"

    def wait(self) -> None:
        for program, text in (
            (self.receiver, '"receiving"'), (self.worker, '"working"'),
            (self.console, "console open"),
        ):  # fmt: skip
            program.wait_for(text)

    async def send(self, *ids: str) -> None:
        for message_id in ids:
            body = b'{"event": "post.published", "data": {"id": "%s"}}' % message_id.encode()
            scheme = marble_scheme([MARBLE_SECRET])
            answer = await deliver("marble", scheme, self.url, body, message_id=message_id)
            assert answer.status == 200


async def test_an_operator_watches_reads_replays_and_a_stranger_is_refused(
    start_program: Callable[..., Program], own_server: Callable[..., Server], tmp_path: Path
) -> None:
    site = Site(start_program, own_server(), tmp_path)
    site.wait()
    axe = await asyncio.to_thread(axe_core, tmp_path)
    async with browsing(axe) as (page, faults):
        expect = playwright.expect
        expect.set_options(timeout=PATIENCE)
        await log_in(page, site)

        # Numbers move.
        dead = page.locator(".figure", has_text="Dead letters").locator("dd")
        await expect(dead).to_have_text("0")
        await site.send(*[f"msg_{number}" for number in range(12)])
        await expect(dead).to_have_text("12")
        await judged(page, axe)

        # A dead letter is read and replayed.
        await page.get_by_role("link", name="Dead letters", exact=True).first.click()
        await expect(page.locator("tbody tr")).to_have_count(12)
        await expect(page.locator("tbody tr").first).to_contain_text("<b>read-only</b>")
        await judged(page, axe)
        await shoot(page, "console-dead")
        site.broken.unlink()
        await page.locator("tbody tr").first.get_by_role("checkbox").check()
        await page.get_by_role("button", name="Replay").click()
        await page.get_by_label("Why").fill("the index can be written again")
        await judged(page, axe)
        await page.get_by_role("button", name="Replay 1 dead letter").click()
        await expect(page.locator("#job")).to_contain_text("1 replayed")

        # All that match are replayed; one sees how far it has come, and that it ends.
        await page.get_by_role("link", name="Back", exact=True).click()
        await expect(page.locator("tbody tr")).to_have_count(11)
        await page.get_by_label("Type").fill("post.*")
        await page.get_by_role("button", name="Filter").click()
        await page.get_by_label("everything that matches").check()
        await page.get_by_role("button", name="Replay").click()
        await page.get_by_label("At most").fill("5")
        await page.get_by_role("button", name="Replay 11 dead letters").click()
        await expect(page.get_by_role("progressbar")).to_have_attribute("max", "11")
        await judged(page, axe)
        await expect(page.locator("#job")).to_contain_text("11 replayed. It has ended")
        await page.get_by_role("link", name="Back", exact=True).click()
        await expect(page.get_by_label("Type")).to_have_value("post.*")
        await expect(page.locator("main")).to_contain_text("No dead letter matches.")

        await pauses_and_resumes(page, site, axe)
        await see_the_other_pages(page, axe)
        await shoot_overview(page, site)
        assert faults == []
        await strangers_are_refused(page, site)
    with redis.Redis.from_url(site.redis.url) as client:
        await eventually(lambda: not client.xlen("hookmill:{0}:main:again"))
        assert client.xlen("hookmill:{0}:main:dead") == 0
    assert site.console.stop() == 0
    assert "Traceback" not in site.console.log
    if axe is None:
        pytest.skip("all but accessibility was checked: axe-core could not be had from npm")


async def log_in(page: Any, site: Site) -> None:
    """A wrong token is refused, the right one opens the overview."""
    await page.goto(site.base)
    await page.get_by_label("Token").fill("a-wrong-token-of-the-tests")
    async with page.expect_response("**/login") as answered:
        await page.get_by_role("button", name="Log in").click()
    assert (await answered.value).status == 403
    await playwright.expect(page.locator("main")).to_contain_text("this token is wrong")
    await page.goto(f"{site.base}/login")
    await page.get_by_label("Token").fill(OPERATOR)
    await page.get_by_label("Your name").fill("Ada")
    await page.keyboard.press("Enter")
    await playwright.expect(page.get_by_role("heading", name="Overview")).to_be_visible()


async def pauses_and_resumes(page: Any, site: Site, axe: str | None) -> None:
    """A pause stops a handler, a resume continues it, and nothing is lost."""
    expect = playwright.expect
    await page.get_by_role("link", name="Handlers", exact=True).click()
    await page.get_by_label("named").fill("rebuild_page")
    await page.get_by_label("why").fill("the index moves")
    await page.get_by_role("button", name="Pause", exact=True).click()
    await expect(page.locator(".paused")).to_contain_text("handler rebuild_page")
    await site.send("paused_1", "paused_2")
    resume = page.get_by_role("button", name="Resume handler rebuild_page")

    async def are_held_back() -> bool:
        await page.reload()
        return "2 held back" in await page.locator(".paused").inner_text()

    await eventually(are_held_back)
    assert site.worker.log.count('"id":"paused_') == 0
    await judged(page, axe)
    await resume.click()
    await expect(page.locator("#job")).to_contain_text("2 put back. It has ended")
    handled = '"event":"handled"'
    await eventually(
        lambda: (
            sum(handled in line for line in site.worker.log.splitlines() if "paused_" in line) == 2
        )
    )
    await page.get_by_role("link", name="Handlers", exact=True).click()
    await expect(page.locator(".paused")).to_have_count(0)


async def see_the_other_pages(page: Any, axe: str | None) -> None:
    expect = playwright.expect
    await page.get_by_role("link", name="Workers", exact=True).first.click()
    await expect(page.locator("tbody tr")).to_have_count(1)
    await judged(page, axe)
    await page.get_by_role("link", name="Handlers", exact=True).click()
    await expect(page.locator("main")).to_contain_text("rebuild_page")
    await judged(page, axe)
    await page.get_by_role("link", name="Audit", exact=True).click()
    await expect(page.locator("tbody tr")).to_have_count(4)
    await expect(page.locator("tbody")).to_contain_text("the index can be written again")
    await judged(page, axe)


async def strangers_are_refused(page: Any, site: Site) -> None:
    """A form of another origin changes nothing, although the browser is logged in."""
    text = (
        f'<form method="post" action="{site.base}/dead/plan"><input name="action" value="drop">'
        '<input name="scope" value="matching"><button>Win</button></form>'
    )

    async def lure(_: web.Request) -> web.Response:
        return web.Response(text=text, content_type="text/html")

    app = web.Application()
    app.router.add_get("/", lure)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        await page.goto(f"http://127.0.0.1:{runner.addresses[0][1]}/")
        async with page.expect_response("**/dead/plan") as answered:
            await page.get_by_role("button", name="Win").click()
        assert (await answered.value).status == 403
        await playwright.expect(page.locator("main")).to_contain_text("another site sent it")
    finally:
        await runner.cleanup()


@asynccontextmanager
async def browsing(axe: str | None) -> AsyncIterator[tuple[Any, list[str]]]:
    """Give a page, and what its console has said against it."""
    faults: list[str] = []

    def noted(said: Any) -> None:
        # The browser itself says that a page was refused; a test asks for it.
        if said.type == "error" and "status of 403" not in said.text:
            faults.append(said.text)

    async with playwright.async_playwright() as started:
        browser = await started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        try:
            page = await browser.new_page(viewport={"width": 1100, "height": 760})
            page.set_default_timeout(PATIENCE)
            page.on("console", noted)
            page.on("pageerror", lambda error: faults.append(str(error)))
            yield page, faults
        finally:
            await browser.close()


async def judged(page: Any, axe: str | None) -> None:
    """Check that a page has no serious fault of accessibility, where axe-core is there."""
    if axe is None:
        return
    await page.evaluate(axe)
    found = await page.evaluate(AXE)
    serious = [
        (one["id"], [node["html"] for node in one["nodes"]][:3])
        for one in found
        if one["impact"] in {"serious", "critical"}
    ]
    assert serious == [], page.url


def axe_core(folder: Path) -> str | None:
    """Return the text of axe-core from npm, None where there is no npm or no registry."""
    if shutil.which("npm") is None:
        return None
    env = {**os.environ, "npm_config_fetch_retries": "0", "npm_config_update_notifier": "false"}
    done = subprocess.run(
        ["npm", "pack", "--silent", "axe-core@4"],
        cwd=folder, env=env, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    if done.returncode:
        return None
    with tarfile.open(folder / done.stdout.split()[-1]) as packed:
        file = packed.extractfile("package/axe.min.js")
        return None if file is None else file.read().decode()


async def shoot_overview(page: Any, site: Site) -> None:
    """Write the overview in light, in dark and as a phone shows it."""
    if not WRITES_IMAGES:
        return
    await page.goto(site.base)
    await playwright.expect(page.locator(".legend").first).to_contain_text(re.compile("[0-9]"))
    await shoot(page, "console-light")
    await page.emulate_media(color_scheme="dark")
    await shoot(page, "console-dark")
    await page.emulate_media(color_scheme="light")
    await page.set_viewport_size({"width": 390, "height": 800})
    await shoot(page, "console-phone")


async def shoot(page: Any, name: str) -> None:
    """Write a picture for the documentation, where that was asked for."""
    if WRITES_IMAGES:
        IMAGES.mkdir(exist_ok=True)
        await page.screenshot(path=IMAGES / f"{name}.png")
