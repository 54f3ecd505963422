"""The rights of each role: the listed commands are all that it may send, and each is needed."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from hookmill.errors import StreamUnavailableError
from hookmill.stream.client import Client
from hookmill.stream.reply_errors import AccessRefusedError, RightMissingError
from hookmill.stream.rights import FOR_METRICS, check_rights, commands_of, needed_commands
from hookmill.stream.script_runner import script_text
from tests import limited
from tests.support import Server

OwnServer = Callable[..., Server]

PACKAGE = Path(__file__).parent.parent.parent / "hookmill" / "stream"
EVERY = {command for role in limited.ROLES for command in commands_of(role)}
OF_ALL = {"CLIENT SETINFO", "CLUSTER SLOTS", "PING", "SELECT"}
NOT_LOOKED_FOR = {
    "CLIENT UNBLOCK",
    "CLUSTER SLOTS",
    "CONFIG GET",
    "EVALSHA",
    "MEMORY USAGE",
    "SCRIPT LOAD",
    "WAIT",
    "WAITAOF",
}
"""What `check_rights` does not look for by name: it needs two of them itself, and a program works
without the others, or checks them where its settings ask for them.
"""


@pytest.fixture
def users(server: Server, redis_client: redis.Redis, prefix: str) -> Iterator[redis.Redis]:
    """An administrator's client of a server with the users of all roles."""
    limited.make_users(server.url, prefix)
    yield redis_client
    for role in limited.ROLES:
        redis_client.acl_deluser(f"hookmill-{role}")


def arity_of(info: list[Any]) -> int:
    return abs(int(info[1]))


def all_commands(client: redis.Redis) -> Iterator[tuple[str, int]]:
    """Yield each command and subcommand of the server, and how many words it has at least."""
    for info in limited.ask(client, "COMMAND"):
        subcommands = info[9] if len(info) > 9 else []
        for each in subcommands or [info]:
            yield each[0].decode().upper().replace("|", " "), arity_of(each)


def skip_before_7_0(client: redis.Redis) -> None:
    """Skip where the server has neither ACL DRYRUN nor flags of scripts."""
    if str(client.info("server")["redis_version"]).startswith("6."):
        pytest.skip("a server before Redis 7.0")


@pytest.mark.parametrize("role", limited.ROLES)
def test_a_role_may_send_its_commands_and_no_other(
    users: redis.Redis, prefix: str, role: str
) -> None:
    skip_before_7_0(users)
    may = set()
    for command, words in all_commands(users):
        given = command.split()
        # Some commands find their keys by a number, a word or a place that has to be right.
        fillers = [f"{prefix}:1"] * max(0, words - len(given))
        answer = limited.ask(users, "ACL", "DRYRUN", f"hookmill-{role}", *given, *fillers)
        if "no permissions to run" not in str(answer):
            may.add(command)
    always = {"AUTH", "HELLO", "QUIT", "RESET"}  # of any user
    there = {command for command, _ in all_commands(users)}
    assert may - always == set(commands_of(role)) & there


@pytest.mark.parametrize("role", limited.ROLES)
def test_a_role_has_no_right_to_keys_of_others(
    users: redis.Redis, server: Server, role: str
) -> None:
    with redis.Redis.from_url(limited.as_role(role, server.url)) as client:
        for command in (("GET", "other:partitions"), ("EXISTS", "other:{0}:stream")):
            with pytest.raises(redis.exceptions.NoPermissionError):
                limited.ask(client, *command)
        with pytest.raises(redis.exceptions.NoPermissionError):
            client.publish("channel", "text")
        script = script_text("newest")
        sha = client.script_load(script)
        with pytest.raises(redis.exceptions.NoPermissionError):
            client.evalsha(sha, 1, "other:{0}:stream")


@pytest.mark.parametrize("role", ["receiver", "worker"])
async def test_a_program_names_each_right_that_its_user_lacks(
    users: redis.Redis, server: Server, prefix: str, role: str
) -> None:
    url = limited.as_role(role, server.url)
    async with Client(url, prefix) as client:
        await check_rights(client, role)
        skip_before_7_0(users)
        for command in set(commands_of(role)) - NOT_LOOKED_FOR - OF_ALL - FOR_METRICS[role]:
            await users_lacks(users, role, command, client)
    assert users.dbsize() == 0, "the look has written something"


@pytest.mark.parametrize("role", ["receiver", "worker"])
async def test_a_program_starts_with_the_rights_of_a_release_without_these_metrics(
    users: redis.Redis, server: Server, prefix: str, role: str
) -> None:
    for command in FOR_METRICS[role]:
        limited.ask(users, "ACL", "SETUSER", f"hookmill-{role}", f"-{command.lower()}")
    async with Client(limited.as_role(role, server.url), prefix) as client:
        await check_rights(client, role)


async def users_lacks(users: redis.Redis, role: str, command: str, client: Client) -> None:
    """Take one right from a user, and expect that exactly this one is named. Give it back."""
    user, word = f"hookmill-{role}", command.lower().replace(" ", "|")
    limited.ask(users, "ACL", "SETUSER", user, f"-{word}")
    with pytest.raises(AccessRefusedError, match=f"user {user}: {command}; see https://"):
        await check_rights(client, role)
    limited.ask(users, "ACL", "SETUSER", user, f"+{word}")


@pytest.mark.parametrize("right", ["script|load", "evalsha"])
async def test_without_the_right_to_run_scripts_a_program_says_so(
    users: redis.Redis, server: Server, prefix: str, right: str
) -> None:
    users.script_flush()
    limited.ask(users, "ACL", "SETUSER", "hookmill-worker", f"-{right.partition('|')[0]}")
    async with Client(limited.as_role("worker", server.url), prefix) as client:
        with pytest.raises(AccessRefusedError, match="refuses this to the user hookmill-worker: "):
            await check_rights(client, "worker")


async def test_without_a_right_to_the_keys_a_program_says_so(
    users: redis.Redis, server: Server
) -> None:
    async with Client(limited.as_role("receiver", server.url), "other") as client:
        with pytest.raises(AccessRefusedError, match=r"to the user hookmill-receiver: .*key"):
            await check_rights(client, "receiver")


async def test_a_right_that_is_taken_away_later_is_an_error_that_names_the_user(
    users: redis.Redis, server: Server, prefix: str
) -> None:
    limited.ask(users, "ACL", "SETUSER", "hookmill-receiver", "-get", "-time")
    port = server.port
    async with Client(limited.as_role("receiver", server.url), prefix) as client:
        with pytest.raises(
            RightMissingError,
            match=f"127.0.0.1:{port} refuses this to the user hookmill-receiver: .*'get'.*; see h",
        ):
            await client.agreed_partitions()
        sha = users.script_load("return redis.call('TIME')")
        with pytest.raises(RightMissingError, match=r"user hookmill-receiver: .*script"):
            await client.execute(0, "EVALSHA", sha, 0)


async def test_a_server_that_has_no_flags_of_scripts_is_not_asked(
    server: Server, prefix: str
) -> None:
    """A stand-in for Redis 6.2: it does not read the first line of a script as flags."""
    text = script_text("rights")
    assert text.startswith("#!lua flags=no-writes\n")
    async with Client(server.url, prefix) as client:
        with pytest.raises(StreamUnavailableError, match="script"):
            await client.execute(0, "SCRIPT", "LOAD", text.replace("#!lua", "#!none"))


async def test_where_scripts_may_write_all_the_same_nothing_is_tried(
    users: redis.Redis, server: Server, prefix: str
) -> None:
    text = script_text("rights").replace("#!lua flags=no-writes\n", "")
    key = f"{prefix}:{{0}}:probe"
    assert users.eval(text, 1, key, "DEL", "RPUSH", "HSET", "SET", "XADD") == []
    assert users.dbsize() == 0


def test_every_command_in_the_code_is_a_right_of_a_role(redis_client: redis.Redis) -> None:
    """What the code of `hookmill/stream` sends is found by `docs/rights.py`, in whatever form."""
    known = {command.split()[0] for command, _ in all_commands(redis_client)}
    found = set()
    for path in PACKAGE.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found |= {node.value} if re.fullmatch("[A-Z]{2,}", node.value) else set()
    found.remove("READONLY")  # an error of Redis
    assert found & known <= {command.split()[0] for command in EVERY}


def test_every_command_of_every_script_is_a_right_of_a_role() -> None:
    of_emulator = {"emulator_lease", "emulator_save"}
    called = {
        (command, word)
        for path in (PACKAGE / "scripts").glob("*.lua")
        if path.stem not in of_emulator
        for command, word in re.findall(
            r"redis\.p?call\('(\w+)'(?:, '(\w+)')?", script_text(path.stem)
        )
    }
    assert {c for c, _ in called} <= {command.split()[0] for command in EVERY}


def test_the_console_has_no_right_to_write(redis_client: redis.Redis) -> None:
    """EVALSHA counts as a command that may write, but what a script calls needs a right, too."""
    infos = {info[0].decode().upper(): info for info in limited.ask(redis_client, "COMMAND")}
    for command in commands_of("console"):
        assert b"write" not in infos[command.split()[0]][2], command


def test_the_needed_commands_are_those_of_receiver_and_worker() -> None:
    assert {"XADD", "XACK", "XCLAIM", "XREADGROUP", "HGET", "EVALSHA", "XINFO"} <= needed_commands()
    assert "WAITAOF" not in needed_commands()
