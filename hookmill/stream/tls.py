"""TLS for the connections to one server: one context for all, from files that may be renewed."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path
from typing import Any

ALERT_TIMEOUT = 1.0
"""Seconds in which a server says why it refuses us, after it has refused us."""


class TLS:
    """The context of all connections that a pool makes. A pool without TLS has none."""

    def __init__(self, pool: Any) -> None:
        self._shared: Any = getattr(pool.make_connection(), "ssl_context", None)
        self._seen: list[tuple[int, int, int]] = []

    def __bool__(self) -> bool:
        return self._shared is not None

    def share(self, connection: Any) -> None:
        """Give the context to a connection: each would make one of its own, which takes long."""
        if self:
            connection.ssl_context = self._shared

    def renew(self) -> str:
        """Read the files again if one has changed; return what is wrong with them, or ""."""
        if not self:
            return ""
        files = [
            (name, path)
            for name in ("ca_certs", "certfile", "keyfile")
            if (path := getattr(self._shared, name))
        ]
        try:
            seen = [_identity_of(path) for _, path in files]
            if seen != self._seen:
                self._shared.context = None
                self._shared.get()
                self._seen = seen
        except (OSError, ValueError) as error:  # an SSLError is an OSError
            named = ", ".join(f"ssl_{name}={path}" for name, path in files)
            why = getattr(error, "strerror", None) or error
            file = getattr(error, "filename", None) or named
            return f"{file}: {why}" if file else str(why)
        return ""

    async def alert(self, host: str, port: int) -> str:
        """Connect without sending anything; return why the server refuses us, "" if it does not.

        With TLS 1.3 a server looks at a client's certificate after the client has connected. Where
        the client has sent something by then, the alert can be lost.
        """
        writer = None
        try:
            async with asyncio.timeout(ALERT_TIMEOUT):
                reader, writer = await asyncio.open_connection(host, port, ssl=self._shared.get())
                await reader.read(1)
        except ssl.SSLError as error:
            return str(error)
        except (OSError, TimeoutError):
            pass
        finally:
            if writer is not None:
                writer.transport.abort()
        return ""


def explained(error: Exception | str) -> str:
    """Return what a TLS error says, and whose certificate it is about."""
    text = str(error)
    if "ALERT" in text and ("CERTIFICATE" in text or "UNKNOWN_CA" in text):
        return f"refuses this program's certificate (ssl_certfile): {text}"
    return f"cannot be used with TLS: {text}"


def _identity_of(path: str) -> tuple[int, int, int]:
    found = Path(path).stat()
    return found.st_ino, found.st_mtime_ns, found.st_size
