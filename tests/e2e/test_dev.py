"""`make run` as a newcomer sees it: samples of both senders are handled, and Ctrl-C ends all."""

from __future__ import annotations

import os
import re
import signal
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from hookmill.dev.main import development_environment
from tests.support import Program, free_port, wait_until


def test_the_samples_are_handled_and_ctrl_c_ends_every_process(
    start_program: Callable[..., Program],
) -> None:
    port = free_port()
    dev = start_program(
        "dev", "--samples", env={"PORT": str(port), "HOOKMILL_LOG_FORMAT": "console"}
    )
    dev.wait_for("Ctrl-C ends everything", timeout=60)

    for what in (
        r"accepted .*source=qstash",
        r"accepted .*source=marble",
        r"handled .*handler=send_receipt",
        r"handled .*handler=rebuild_page",
        r"handled .*attempt=2 .*handler=reindex",
        r"duplicate dropped .*id=msg_sample_order",
        r"refused .*code=body_mismatch",
        r"published .*program=dev",
        r"receipt sent .*order=A-1002",
        r"QStash reports a delivery .*status=200",
    ):
        assert re.search(what, dev.log), f"{what} is not in:\n{dev.log}"
    assert "error" not in dev.log.replace('"error"', ""), dev.log
    redis_port = int(re.findall(r"redis://127.0.0.1:(\d+)", dev.log)[0])
    children = _children_of(dev.pid)

    dev.signal(signal.SIGINT)
    assert dev.wait() == 0
    assert children, "there were no children to end"
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in children))
    assert not any(_is_open(each) for each in (port, redis_port))


def test_a_program_that_fails_ends_all_and_the_exit_status_says_so(
    start_program: Callable[..., Program],
) -> None:
    dev = start_program(
        "dev", "no_such_module:handlers", env={"PORT": str(free_port()), "HOOKMILL_GROUP": "mine"}
    )
    assert dev.wait(60) == 1
    assert "hookmill: a program ended by itself: see its lines above\n" in dev.log
    assert "there is no group" not in dev.log  # it adds the group of the settings


def _children_of(pid: int) -> list[str]:
    tasks = Path(f"/proc/{pid}/task")
    return [pid for task in tasks.iterdir() for pid in (task / "children").read_text().split()]


def _is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_the_emulator_never_uses_the_receivers_port(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", {"PORT": "8081"})
    assert development_environment()
    assert not os.environ["QSTASH_URL"].endswith(":8081")
