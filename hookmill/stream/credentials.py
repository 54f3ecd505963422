"""User and password from a file that holds a Redis URL, read again at each new connection.

So a password that is rotated, or a token that expires, needs no restart.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import redis
from redis import connection

from hookmill.stream.topology import server_list_of

_parse: Any = connection.parse_url  # it has no types


class UrlFileCredentials(redis.CredentialProvider):
    """The user and the password in the URL that a file holds. Its errors do not show the URL."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def get_credentials(self) -> tuple[str] | tuple[str, str]:
        """Read the file. Without a password the connection does not log in."""
        try:
            listed = server_list_of(self._path.read_text("utf-8").strip())
            found: dict[str, Any] = _parse(listed.server)
        except (OSError, ValueError) as error:
            why = f"{self._path} cannot be read: {type(error).__name__}"
            raise redis.AuthenticationError(why) from None
        user, password = found.get("username"), found.get("password", "")
        words: Any = (user, password) if user else (password,) if password else ()
        return words  # type: ignore[no-any-return] # the Redis client takes an empty one, too

    async def get_credentials_async(self) -> tuple[str] | tuple[str, str]:
        """Do the same: the file is small."""
        return self.get_credentials()


def read_again(pool: Any, path: Path | None) -> None:
    """Let the connections of a pool take user and password from a file, if there is one."""
    if path is not None:
        for name in ("username", "password"):
            pool.connection_kwargs.pop(name, None)
        pool.connection_kwargs["credential_provider"] = UrlFileCredentials(path)
