"""What an error of Redis means, and Hookmill's own error for it.

The text of an error that refuses us names the server and the user, and never a password.
"""

from __future__ import annotations

from typing import Any

import redis

from hookmill.errors import GroupLostError, StreamUnavailableError, see

_NO_RIGHT = (
    "ACL failure in script",
    "The user executing the script can't",  # before Redis 7.2
    "Transaction discarded because of: NOPERM",
)
"""How the error of a script or a transaction begins with a command for which the user has no right.
"""


def is_missing_script(reply: Any) -> bool:
    """Return whether a reply inside of a transaction says that the server has not the script."""
    return isinstance(reply, redis.exceptions.NoScriptError)


class DiscardedError(StreamUnavailableError):
    """Redis refused one of a transaction's commands, and so did nothing of it."""


class ScriptMissingError(StreamUnavailableError):
    """The server does not know the script, so it did nothing."""


class KeysElsewhereError(StreamUnavailableError):
    """Another server of the cluster has these keys, so this one did nothing."""


class AccessRefusedError(StreamUnavailableError):
    """The server refuses us, or is none: a wrong password, number of a database, or protocol. Its
    text names the address, and no password.
    """


class RightMissingError(AccessRefusedError):
    """The user may not send this command, or not with this key. Other commands may work."""


class WaitEndedError(StreamUnavailableError):
    """Somebody else ended a blocking command: an operator, or a change of the server's role."""


_OF_WRONG_SERVER = (
    redis.exceptions.ReadOnlyError,
    redis.exceptions.MasterDownError,
    redis.exceptions.MovedError,
    redis.exceptions.ClusterDownError,
)


def is_of_wrong_server(error: redis.ResponseError) -> bool:
    """Return whether only a server gives this reply that is not the one to ask: a replica, which
    was the master before. A script's error has the reply inside of its text.
    """
    if isinstance(error, _OF_WRONG_SERVER):
        return True
    text = str(error)
    return (
        "READONLY" in text
        or "instance state changed" in text  # it ends a blocking command: UNBLOCKED ...
        or "cannot be used with replica instances" in text  # WAIT, WAITAOF
    )


def is_of_bad_server(error: Exception) -> bool:
    """Return whether the other connections are as bad as the one that failed with this error: it
    had no reply in time, or its server is loading, or does not know us any more.
    """
    return isinstance(
        error,
        redis.TimeoutError
        | TimeoutError
        | redis.exceptions.BusyLoadingError
        | redis.AuthenticationError,
    )


def translated(error: Exception, pool: Any) -> StreamUnavailableError | GroupLostError:
    """Return an error of a pool's server as one of Hookmill's. After a timeout something may be
    written.
    """
    text = str(error) or type(error).__name__
    if isinstance(error, redis.exceptions.NoScriptError):
        return ScriptMissingError(text)
    if isinstance(error, redis.exceptions.MovedError):
        return KeysElsewhereError(f"another server of the cluster has these keys: {text}")
    if isinstance(error, redis.exceptions.AskError | redis.exceptions.TryAgainError):
        return StreamUnavailableError(f"the cluster is moving these keys to another server: {text}")
    # Redis before 7.0 says UNBLOCKED where a stream is gone that somebody waits for.
    if "NOGROUP" in text or "UNBLOCKED the stream key no longer exists" in text:
        return GroupLostError(text)
    if text.startswith("UNBLOCKED"):
        return WaitEndedError(text)
    if isinstance(error, redis.exceptions.NoPermissionError) or any(
        why in text for why in _NO_RIGHT
    ):
        return RightMissingError(missing_right(pool, text))
    if isinstance(error, redis.exceptions.ExecAbortError):
        return DiscardedError(text)
    return StreamUnavailableError(text)


def missing_right(pool: Any, what: str) -> str:
    """Return the text that says what a pool's user may not do, and where the rights are listed."""
    return (
        f"{address_of(pool)} refuses this to the user {user_of(pool)}: {what}; "
        f"{see('how-to/limit-redis-rights.md')}"
    )


def address_of(pool: Any) -> str:
    """Return where the server of a pool is, without user and password."""
    options = pool.connection_kwargs
    return str(options.get("path") or f"{options['host']}:{options.get('port', 6379)}")


def user_of(pool: Any) -> str:
    """Return the name with which a pool logs in."""
    options = pool.connection_kwargs
    if provider := options.get("credential_provider"):
        try:
            words = provider.get_credentials()
        except redis.AuthenticationError:  # the file is gone
            return "(unknown)"
        return str(words[0]) if len(words) == 2 else "default"
    return str(options.get("username") or "default")
