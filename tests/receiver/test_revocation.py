"""A secret that is withdrawn stops verifying, and nothing else changes, in a real receiver."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.receiver.revoking import NEW, OLD, OTHER, Revoking, start_revoking
from tests.support import Program, Server

Start = Callable[..., Revoking]

TOML = """
[sources.ours]
preset = "github"
secrets = "file:ours"

[sources.other]
preset = "github"
secrets = "file:other"
"""


@pytest.fixture
def start(
    own_server: Callable[..., Server], tmp_path: Path, start_program: Callable[..., Program]
) -> Start:
    """Start a receiver with the sources `ours` and `other`, each with a file for its secrets."""
    (tmp_path / "ours").write_text(f"{OLD}\n")
    (tmp_path / "other").write_text(f"{OTHER}\n")
    server = own_server()

    def start_one(toml: str = TOML, **env: str) -> Revoking:
        return start_revoking(server, tmp_path, start_program, toml, **env)

    return start_one


def withdraw(path: Path, how: str) -> None:
    other = path.with_name("in-its-place")
    match how:
        case "removed":
            path.unlink()
        case "emptied":
            path.write_text("\n")
        case "a directory":
            path.unlink()
            path.mkdir()
        case "a pipe":
            os.mkfifo(other)
            other.replace(path)
        case "unreadable":
            path.unlink()
            path.symlink_to(path)  # also root cannot follow it
        case "weak":
            path.write_text("x\n")
        case "a comment":
            path.write_text(f"# {OLD}\n")


@pytest.mark.parametrize(
    "how", ["removed", "emptied", "a directory", "a pipe", "unreadable", "weak", "a comment"]
)
def test_a_withdrawn_secret_stops_and_its_source_says_so(start: Start, how: str) -> None:
    receiver = start()
    path = receiver.folder / "ours"
    assert receiver.send("ours", OLD).status == 200
    withdraw(path, how)

    refused = receiver.until(503, "ours", OLD)

    assert '"no_secret"' in refused.body
    assert int(refused.headers["Retry-After"]) > 0
    assert receiver.send("other", OTHER).status == 200
    ready = receiver.get("/readyz")
    assert ready.status == 200
    assert "source ours has no usable secret: its deliveries get 503 no_secret\n" in ready.body
    assert str(receiver.folder) not in ready.body
    shown = receiver.get("/metrics").body
    assert 'hookmill_usable_secrets{source="ours"} 0.0' in shown
    assert 'hookmill_usable_secrets{source="other"} 1.0' in shown
    assert 'outcome="no_secret",source="ours"' in shown
    for _ in range(3):
        receiver.send("ours", OLD)
    (line,) = receiver.logged("no usable secret, deliveries get 503")
    assert (line["level"], line["source"]) == ("error", "ours")
    assert OLD not in receiver.program.log
    assert "Traceback" not in receiver.program.log
    if path.is_dir():
        path.rmdir()
    new = path.with_name("the-new-one")
    new.write_text(NEW)
    new.replace(path)
    receiver.until(200, "ours", NEW)
    assert receiver.send("ours", OLD).status == 401
    assert "no usable secret" not in receiver.get("/readyz").body
    assert [one["source"] for one in receiver.logged("a usable secret again")] == ["ours"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_a_secret_that_may_not_be_read_any_more_stops(start: Start) -> None:
    receiver = start()
    (receiver.folder / "ours").chmod(0)
    receiver.until(503, "ours", OLD)


def test_a_secret_is_rotated_while_another_sources_table_is_faulty(start: Start) -> None:
    receiver = start()
    (receiver.folder / "hookmill.toml").write_text(f'{TOML}tolerance = "hush"\n')
    receiver.program.wait_for("a source has a fault")
    (receiver.folder / "ours").write_text(NEW)
    receiver.until(200, "ours", NEW)
    assert receiver.send("ours", OLD).status == 401
    assert receiver.send("other", OTHER).status == 200
    (line,) = receiver.logged("a source has a fault")
    assert line["source"] == "other"
    assert "tolerance" in line["error"]
    assert receiver.get("/readyz").body == "ready\n"


@pytest.mark.parametrize(
    "toml", ["[sources.ours", "nothing_like_it = 1\n", "port = 'x'\n", "", "[sources]\n"]
)
def test_a_settings_file_that_cannot_be_used_changes_nothing_but_withdrawn_secrets(
    start: Start, toml: str
) -> None:
    receiver = start()
    (receiver.folder / "hookmill.toml").write_text(toml)
    receiver.program.wait_for("sources not reloaded, the old ones stay in use")
    assert receiver.send("ours", OLD).status == 200
    (receiver.folder / "ours").unlink()
    receiver.until(503, "ours", OLD)
    assert receiver.send("other", OTHER).status == 200
    (receiver.folder / "ours").write_text(NEW)
    receiver.until(200, "ours", NEW)
    assert len(receiver.logged("sources not reloaded, the old ones stay in use")) == 1


def test_a_source_whose_table_is_gone_is_gone(start: Start) -> None:
    receiver = start()
    (receiver.folder / "hookmill.toml").write_text(TOML.partition("[sources.other]")[0])
    receiver.until(404, "other", OTHER)
    assert receiver.send("ours", OLD).status == 200


def test_a_source_that_is_added_without_a_secret_gets_503_until_it_has_one(start: Start) -> None:
    receiver = start()
    table = '[sources.third]\npreset = "github"\nsecrets = "file:third"\n'
    (receiver.folder / "hookmill.toml").write_text(TOML + table)
    receiver.until(503, "third", NEW)
    (receiver.folder / "third").write_text(NEW)
    receiver.until(200, "third", NEW)
    assert receiver.send("ours", OLD).status == 200


def test_a_secret_stops_when_its_time_is_over(start: Start) -> None:
    end = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 8))
    window = f'secrets = [{{ file = "ours", until = {end} }}]'
    receiver = start(TOML.replace('secrets = "file:ours"', window))
    assert receiver.send("ours", OLD).status == 200
    receiver.until(503, "ours", OLD)
    assert "source ours has no usable secret" in receiver.get("/readyz").body
    assert receiver.send("other", OTHER).status == 200
    (line,) = receiver.logged("no usable secret, deliveries get 503")
    assert "has ended, or has not begun" in line["error"]


def test_a_mounted_secret_that_is_swapped_drops_no_delivery(start: Start, tmp_path: Path) -> None:
    for name, text in (("first", OLD), ("second", f"{OLD}\n{NEW}"), ("third", NEW)):
        (tmp_path / f"..{name}").mkdir()
        (tmp_path / f"..{name}/secret").write_text(text)
    (tmp_path / "..data").symlink_to("..first")
    (tmp_path / "mounted").symlink_to("..data/secret")
    receiver = start(TOML.replace("file:ours", "file:mounted"))

    def swap(name: str) -> None:
        (tmp_path / "..tmp").symlink_to(f"..{name}")
        (tmp_path / "..tmp").replace(tmp_path / "..data")

    statuses, secret, stop = set(), [OLD], threading.Event()

    def send() -> None:
        while not stop.is_set():
            statuses.add(receiver.send("ours", secret[0]).status)

    sending = threading.Thread(target=send)
    sending.start()
    try:
        swap("second")
        receiver.until(200, "ours", NEW)
        secret[0] = NEW
        swap("third")
        receiver.until(401, "ours", OLD)
    finally:
        stop.set()
        sending.join()
    assert statuses == {200}
    shown = receiver.get("/metrics").body
    assert 'hookmill_verified_total{secret="file:mounted",source="ours"}' in shown
    assert 'hookmill_verified_total{secret="file:mounted (2)",source="ours"}' in shown


def test_a_file_that_is_still_being_written_does_not_count(start: Start) -> None:
    receiver = start()
    stop = threading.Event()

    def write_on() -> None:
        number = 0
        while not stop.wait(0.05):
            number += 1
            # Each content would be a secret by itself.
            (receiver.folder / "ours").write_text(f"{NEW}{number}")

    writing = threading.Thread(target=write_on)
    writing.start()
    began = time.monotonic()
    try:
        while time.monotonic() - began < 7:
            assert receiver.send("ours", OLD).status == 200
    finally:
        stop.set()
        writing.join()
    (receiver.folder / "ours").write_text(NEW)
    receiver.until(200, "ours", NEW)
    assert receiver.send("ours", OLD).status == 401


def test_a_body_that_comes_slowly_is_judged_by_the_secrets_of_its_end(start: Start) -> None:
    receiver = start(HOOKMILL_READ_TIMEOUT="60")
    body, headers = receiver.signed("ours", OLD)
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    with socket.create_connection(("127.0.0.1", receiver.port), timeout=60) as sender:
        sender.sendall(
            f"POST /ours HTTP/1.1\r\nHost: h\r\n{head}Content-Length: {len(body)}\r\n\r\n".encode()
        )
        sender.sendall(body[:5])
        (receiver.folder / "ours").unlink()
        receiver.until(503, "ours", OLD)
        sender.sendall(body[5:])
        assert sender.recv(4096).startswith(b"HTTP/1.1 503 ")


@pytest.mark.parametrize(
    ("source", "variable"),
    [("marble", "MARBLE_WEBHOOK_SECRET"), ("qstash", "QSTASH_CURRENT_SIGNING_KEY")],
)
def test_a_source_that_its_secret_switched_on_stays_when_that_is_withdrawn(
    start: Start, tmp_path: Path, source: str, variable: str
) -> None:
    (tmp_path / "switch").write_text(OLD)
    receiver = start(**{f"{variable}_FILE": "switch"})
    before = receiver.send(source, OLD, "marble").status
    assert before == (200 if source == "marble" else 401)
    (tmp_path / "switch").write_text("")
    receiver.until(503, source, OLD, "marble")
    assert receiver.send("ours", OLD).status == 200


def test_a_signal_has_the_files_read_at_once(start: Start) -> None:
    receiver = start()
    (receiver.folder / "ours").write_text(f"{OLD}\n{NEW}")
    receiver.program.signal(signal.SIGHUP)
    receiver.program.wait_for("sources reloaded")
    assert receiver.send("ours", NEW).status == 200


@pytest.mark.parametrize(
    ("toml", "env", "said"),
    [
        ("", {"MARBLE_WEBHOOK_SECRET": "x"}, "sources.marble: env:MARBLE_WEBHOOK_SECRET has fewer"),
        ("", {"QSTASH_CURRENT_SIGNING_KEY": "k"}, "has fewer than 8 bytes: it could be guessed"),
        ("[sources.svix]\n", {"SVIX_WEBHOOK_SECRET": "whsec_QQ"}, "has fewer than 8 bytes"),
        (
            "[sources.github]\n",
            {"GITHUB_WEBHOOK_SECRET_FILE": "commented"},
            "commented, line 1: it",
        ),
    ],
)
def test_a_weak_or_wrong_secret_ends_the_start_with_2(
    tmp_path: Path,
    start_program: Callable[..., Program],
    toml: str,
    env: dict[str, str],
    said: str,
) -> None:
    (tmp_path / "hookmill.toml").write_text(toml)
    (tmp_path / "commented").write_text(f"# hush, the old one\n{OLD}\n")
    program = start_program("receiver", env={"REDIS_URL": "redis://127.0.0.1:1", "PORT": "0"} | env)
    assert program.wait(60) == 2
    assert said in program.log
    assert "hush" not in program.log
    assert "Traceback" not in program.log
