"""Secrets that change under a running receiver, with real files and a real SIGHUP."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import aiohttp
import pytest
import structlog

from hookmill.config.settings import Settings, load_settings
from hookmill.config.source_options import SourceOptions
from hookmill.config.sources import sources_of
from hookmill.signatures import Scheme
from hookmill.signatures.presets import PRESETS
from hookmill.signatures.spec_verifier import SpecVerifier
from receiver import reloader as reloader_module
from receiver.reloader import Reloader, files_of
from receiver.source_table import Served
from tests.ports import free_port
from tests.support import Program, Server, eventually, signed_headers, wait_until

OLD, NEW = "the old secret of github", "the new secret of github"


class Serving:
    """A reloader in a folder of its own, and what it has put in place."""

    def __init__(self, folder: Path) -> None:
        (folder / "secret").write_text(OLD)
        (folder / "hookmill.toml").write_text('[sources.github]\nsecrets = "file:secret"\n')
        self.replaced: list[Served] = []
        settings = load_settings()
        self.reloader = Reloader(settings, sources_of(settings), self.replaced.append)

    @property
    def secrets(self) -> list[str]:
        """The secrets that count now."""
        return [one.text for source in self.replaced[-1].sources for one in source.secrets]


@pytest.fixture
async def serving(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Serving]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(reloader_module, "PERIOD", 0.02)
    made = Serving(tmp_path)
    made.reloader.serve()
    made.reloader.start()
    yield made
    await made.reloader.stop()


def change(path: Path, how: str) -> None:
    other = path.with_name("other")
    other.write_text(NEW)
    match how:
        case "written":
            path.write_text(NEW)
        case "replaced":
            other.replace(path)
        case "linked elsewhere":
            path.unlink()
            path.symlink_to(other)


@pytest.mark.parametrize("how", ["written", "replaced", "linked elsewhere"])
async def test_a_file_that_changes_makes_its_source_load_again(
    serving: Serving, tmp_path: Path, how: str
) -> None:
    change(tmp_path / "secret", how)
    await eventually(lambda: serving.secrets == [NEW])
    assert len(serving.replaced) == 2


async def test_nothing_is_replaced_while_nothing_changes(serving: Serving) -> None:
    with structlog.testing.capture_logs() as logs:
        serving.reloader.ask()
        await eventually(lambda: logs)
    assert [line["event"] for line in logs] == ["sources reloaded"]
    assert len(serving.replaced) == 2  # they were made anew, because somebody asked for it
    assert serving.secrets == [OLD]


async def test_what_is_asked_for_needs_a_second_look_but_not_a_period(
    serving: Serving, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reloader_module, "PERIOD", 1000.0)
    (tmp_path / "new").write_text(NEW)
    (tmp_path / "hookmill.toml").write_text('[sources.github]\nsecrets = "file:new"\n')
    serving.reloader.ask()
    await eventually(lambda: serving.secrets == [NEW])


def test_all_files_of_a_source_are_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QSTASH_NEXT_SIGNING_KEY_FILE", "/run/next")
    monkeypatch.setenv("GITHUB_WEBHOOK_SECRET_FILE", "/run/github")
    options = SourceOptions.model_validate(
        {"secrets": ["file:/run/a", "env:B", {"file": "/run/c"}], "verify_token": "file:/run/d"}
    )
    expected = {"hookmill.toml", "/run/next", "/run/github", "/run/a", "/run/c", "/run/d"}
    assert files_of(Settings(sources={"github": options})) == set(map(Path, expected))


# --- the program -----------------------------------------------------------------------------


class GitHub:
    """Posts as GitHub does."""

    def __init__(self, port: int, admin_port: int) -> None:
        self.base = f"http://127.0.0.1:{port}"
        self._admin = f"http://127.0.0.1:{admin_port}"

    async def post(self, session: aiohttp.ClientSession, secret: str, number: int) -> int:
        scheme: Scheme = SpecVerifier(PRESETS["github"].spec, [secret])
        body = b'{"action":"opened","n":%d}' % number
        headers = {"X-GitHub-Event": "issues", "X-GitHub-Delivery": f"d{number}"}
        headers |= signed_headers(scheme, body, "/github")
        async with session.post(f"{self.base}/github", data=body, headers=headers) as answer:
            return answer.status

    async def metrics(self, session: aiohttp.ClientSession) -> str:
        async with session.get(f"{self._admin}/metrics") as answer:
            assert answer.status == 200
            return await answer.text()


@pytest.fixture
def github(
    server: Server, prefix: str, tmp_path: Path, start_program: Callable[..., Program]
) -> tuple[GitHub, Program]:
    """A receiver for GitHub's deliveries, with the secret in a file."""
    (tmp_path / "github-secret").write_text(OLD)
    (tmp_path / "hookmill.toml").write_text('[sources.github]\nsecrets = ["file:github-secret"]\n')
    port, admin_port = free_port(), free_port()
    env = {"REDIS_URL": server.url, "HOOKMILL_PREFIX": prefix, "PORT": str(port)}
    env["HOOKMILL_ADMIN_PORT"] = str(admin_port)
    program = start_program("receiver", env=env)
    program.wait_for('"receiving"')
    return GitHub(port, admin_port), program


@pytest.mark.parametrize("how", ["file", "hangup"])
async def test_a_secret_is_rotated_under_load_and_no_request_is_dropped(
    github: tuple[GitHub, Program], tmp_path: Path, how: str
) -> None:
    sender, program = github
    path = tmp_path / "github-secret"
    statuses: list[int] = []
    secret = OLD

    async with aiohttp.ClientSession() as session:
        go_on = True

        async def send() -> None:
            while go_on:
                statuses.append(await sender.post(session, secret, len(statuses)))

        sending = asyncio.create_task(send())
        assert await sender.post(session, NEW, -1) == 401
        path.write_text(f"{OLD}\n{NEW}\n")
        if how == "hangup":
            os.kill(program.pid, signal.SIGHUP)
        await asyncio.to_thread(program.wait_for, "sources reloaded")
        assert await sender.post(session, NEW, -2) == 200
        assert await sender.post(session, OLD, -3) == 200
        secret = NEW
        seen = len(statuses)
        await eventually(lambda: len(statuses) > seen + 5)
        path.write_text(NEW)
        await asyncio.to_thread(wait_until, lambda: program.log.count("sources reloaded") == 2)
        seen = len(statuses)
        await eventually(lambda: len(statuses) > seen + 5)
        go_on = False
        await sending
        assert await sender.post(session, OLD, -4) == 401
        assert set(statuses) == {200}
        text = await sender.metrics(session)
        assert OLD not in text + program.log
        assert NEW not in text + program.log
        assert 'hookmill_deliveries_total{outcome="signature_mismatch",source="github"} 2.0' in text
        assert 'hookmill_verified_total{secret="file:github-secret",source="github"}' in text
        # The new secret keeps its name when the old one is gone.
        assert 'hookmill_verified_total{secret="file:github-secret (2)",source="github"}' in text


async def test_a_secret_counts_only_in_its_time(
    server: Server, prefix: str, tmp_path: Path, start_program: Callable[..., Program]
) -> None:
    when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - 60))
    (tmp_path / "hookmill.toml").write_text(
        "[sources.github]\nsecrets = [\n"
        f'  {{ env = "OLD_SECRET", until = {when} }},\n'
        f'  {{ env = "NEW_SECRET", from = {when} }},\n]\n'
    )
    port, admin_port = free_port(), free_port()
    env = {"REDIS_URL": server.url, "HOOKMILL_PREFIX": prefix, "PORT": str(port)}
    env["HOOKMILL_ADMIN_PORT"] = str(admin_port)
    program = start_program("receiver", env=env | {"OLD_SECRET": OLD, "NEW_SECRET": NEW})
    program.wait_for('"receiving"')
    sender = GitHub(port, admin_port)
    async with aiohttp.ClientSession() as session:
        assert await sender.post(session, OLD, 1) == 401
        assert await sender.post(session, NEW, 2) == 200
        text = await sender.metrics(session)
    # An operator sees that the old secret is no longer used.
    assert 'hookmill_verified_total{secret="env:OLD_SECRET",source="github"} 0.0' in text
    assert 'hookmill_verified_total{secret="env:NEW_SECRET",source="github"} 1.0' in text
