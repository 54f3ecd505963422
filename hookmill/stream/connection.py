"""Connections that never repeat a command, the scripts' texts, and Redis' errors made ours."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from importlib import resources
from typing import Any

import redis
import redis.asyncio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff

from hookmill.errors import GroupLostError, SettingsError, StreamUnavailableError


def connect(url: str, timeout: float | None) -> redis.asyncio.Redis:
    """Open a client that never repeats a command by itself. `timeout` is in seconds, None: none.

    RESP2 replies have one shape in every version of the client, and are the cheaper to parse.
    """
    try:
        return redis.asyncio.Redis.from_url(
            url,
            socket_timeout=timeout,
            socket_connect_timeout=timeout if timeout is not None else 5.0,
            retry=AsyncRetry(NoBackoff(), 0),
            protocol=2,
        )
    except ValueError:  # its text may show a part of the password
        raise SettingsError(["REDIS_URL: the Redis client cannot read it"]) from None


def script(client: redis.asyncio.Redis, name: str) -> Any:  # redis-py's scripts are untyped
    """Prepare a script for this client; what it returns is called with `keys` and `args`."""
    return client.register_script(script_text(name))


_ALLOW_OOM = "#!lua flags=allow-oom\n"
# Redis before 7.0 lets a script go on whose first write takes no memory; this one does nothing.
_WRITE_FIRST = "redis.call('DEL', KEYS[1] .. ':none')\n"


async def draining_scripts(client: redis.asyncio.Redis, names: Iterable[str]) -> dict[str, Any]:
    """Prepare the scripts that must go on while Redis is full: they are what empties it."""
    try:
        await client.script_load(f"{_ALLOW_OOM}return 1")
    except redis.ResponseError:
        head = _WRITE_FIRST
    else:
        head = _ALLOW_OOM
    return {name: client.register_script(head + script_text(name)) for name in names}


@cache
def script_text(name: str) -> str:
    """Read a script, with the parts that its `--#include` lines name put in their place."""
    folder = resources.files("hookmill.stream") / "scripts"
    lines = (folder / f"{name}.lua").read_text("utf-8").splitlines()
    return "\n".join(
        script_text(line.removeprefix("--#include ")) if line.startswith("--#include ") else line
        for line in lines
    )


async def together(client: redis.asyncio.Redis, *commands: tuple[Any, ...]) -> list[Any]:
    """Send commands in one round trip on one connection; an error comes back as its reply."""
    async with client.pipeline(transaction=False) as pipe:
        for command in commands:
            pipe.execute_command(*command)
        replies: list[Any] = await pipe.execute(raise_on_error=False)
    return replies


def is_unknown_script(reply: Any) -> bool:
    """Say whether a reply means that the server has forgotten a script, and did nothing."""
    return isinstance(reply, redis.exceptions.NoScriptError)


@contextmanager
def translated() -> Iterator[None]:
    """Turn Redis' errors into ours. A timeout is no proof that nothing was written."""
    try:
        yield
    except (redis.RedisError, OSError) as error:  # a TimeoutError is an OSError
        text = str(error) or type(error).__name__
        if "NOGROUP" in text or "UNBLOCKED" in text:
            raise GroupLostError(text) from None
        raise StreamUnavailableError(text) from None
