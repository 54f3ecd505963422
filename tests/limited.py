"""Users that have only the rights of their role, as `deploy/redis/` lists them.

With HOOKMILL_TEST_RIGHTS=1 all programs of the tests log in as the user of their role, and a test
fails whose server has refused one of them a command.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import redis

IS_ASKED_FOR = os.environ.get("HOOKMILL_TEST_RIGHTS") == "1"
ROLES = ("receiver", "worker", "operator", "console")
PASSWORD = "limited"

_FILES = Path(__file__).parent.parent / "deploy" / "redis"
_LOOKING = [("status",), ("dead", "list"), ("dead", "show"), ("group", "list")]


def file_for(client: redis.Redis) -> str:
    """Return which of the files in `deploy/redis/` a server can read."""
    has_waitaof = bool(ask(client, "COMMAND", "INFO", "WAITAOF")[0])
    return "users.acl" if has_waitaof else "users-before-7.2.acl"


def rules_of(client: redis.Redis, role: str, prefix: str) -> list[str]:
    """Return what ACL SETUSER takes for a role, from the file for this server."""
    text = (_FILES / file_for(client)).read_text()
    lines = [line.split() for line in text.splitlines()]
    (rules,) = [rules for _, user, *rules in lines if user == f"hookmill-{role}"]
    return [rule.replace("~hookmill:", f"~{prefix}:") for rule in rules]


def make_users(url: str, prefix: str) -> None:
    """Make the user of each role, for the keys of a prefix, and one with the rights of all."""
    with redis.Redis.from_url(url) as client:
        rules = {role: rules_of(client, role, prefix) for role in ROLES}
        rules["all"] = [rule for some in rules.values() for rule in some if rule != "-@all"]
        for role, some in rules.items():
            ask(client, "ACL", "SETUSER", f"hookmill-{role}", "reset", f">{PASSWORD}", *some)
        ask(client, "ACL", "LOG", "RESET")


def refused_and_forgotten(client: redis.Redis) -> list[str]:
    """Return what the server has refused to the users of the roles since the last call."""
    rows: list[dict[str, Any]] = client.acl_log()
    ask(client, "ACL", "LOG", "RESET")
    found = [{name: str(value) for name, value in row.items()} for row in rows]
    return sorted(
        f"{row['username']}: {row['reason']} {row['object']}"
        for row in found
        if row["username"].startswith("hookmill-")
        and row["reason"] != "auth"
        and row["object"] != "client"  # Redis 6.2 does not know CLIENT SETINFO
    )


def as_role(role: str, url: str) -> str:
    """Return the URL with which a role logs in."""
    return url.replace("://", f"://hookmill-{role}:{PASSWORD}@") if "@" not in url else url


def as_all(url: str) -> str:
    """Return the URL of the user with the rights of all roles, for a test that plays them all."""
    return as_role("all", url)


def role_of(command: Sequence[str]) -> str:
    """Return the role of `hookmill COMMAND`."""
    if command[0] in ROLES:
        return command[0]
    return "console" if any(command[: len(each)] == each for each in _LOOKING) else "operator"


def limited_env(command: Sequence[str], env: dict[str, str]) -> dict[str, str]:
    """Return the environment in which a program logs in as the user of its role."""
    if "REDIS_URL" not in env or command[0] in {"dev", "qstash"}:
        return env
    return env | {"REDIS_URL": as_role(role_of(command), env["REDIS_URL"])}


def ask(client: redis.Redis, *command: str) -> Any:
    """Send a command; return the reply as it came. The client changes some that are of interest."""
    connection: Any = client.connection_pool.get_connection()
    try:
        connection.send_command(*command)
        return connection.read_response()
    finally:
        client.connection_pool.release(connection)
