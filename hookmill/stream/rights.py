"""The rights of a program's user in Redis: which commands a role needs, and which are refused.

The commands are in `rights.txt`, a role each line. `docs/generate.py` writes it from the code.
"""

from __future__ import annotations

from functools import cache
from importlib import resources

from hookmill.errors import StreamUnavailableError
from hookmill.stream.client import Client
from hookmill.stream.reply_errors import AccessRefusedError, RightMissingError, missing_right
from hookmill.stream.script_runner import Call, ScriptRunner

_NOT_ALWAYS = {
    "CLIENT SETINFO",
    "CLIENT UNBLOCK",  # a wait that is not ended ends by itself
    "CLUSTER SLOTS",  # only in a cluster
    "CONFIG GET",
    "MEMORY USAGE",
    "PING",
    "SELECT",
    "WAIT",
    "WAITAOF",
}
"""Commands that only some settings need, or without which a program works as well."""

FOR_METRICS = {"receiver": {"ZCOUNT", "ZRANGE"}, "worker": {"ZCOUNT"}}
"""Commands of a role without which only its metrics know less of the groups."""

_OUTSIDE = {
    "BZPOPMIN": ("BZPOPMIN", "{probe}", "no"),  # an error about the time, at once
    "CLIENT ID": ("CLIENT", "ID"),
    "EVAL": ("EVAL", "return 1", 0),
    "EXEC": ("EXEC",),  # an error: there is no transaction
}
"""Commands that no script may call, in a form that changes nothing. MULTI is one more: it is tried
only where EXEC can end the transaction.
"""

_EMPTY_TRANSACTION = (("MULTI",), ("EXEC",))

_TRIED_OTHERWISE = {"EVALSHA", "MULTI", "SCRIPT LOAD"}


@cache
def commands_of(role: str) -> tuple[str, ...]:
    """Return the commands of a role: `receiver`, `worker`, `operator` or `console`."""
    text = (resources.files("hookmill.stream") / "rights.txt").read_text("utf-8")
    lines = dict(line.split(": ") for line in text.splitlines())
    return tuple(lines[role].split(", "))


@cache
def needed_commands() -> frozenset[str]:
    """Return the commands, without subcommands, that a server must have for receiver and worker."""
    every = {*commands_of("receiver"), *commands_of("worker")} - _NOT_ALWAYS
    return frozenset(command.split()[0] for command in every)


async def check_rights(client: Client, role: str) -> None:
    """Raise `AccessRefusedError` if the user may not send a command that the role needs.

    It names all of them. Nothing is written. A server that cannot tell (Redis 6.2) says nothing.
    """
    unneeded = _NOT_ALWAYS | FOR_METRICS.get(role, set())
    needed = [name for name in commands_of(role) if name not in unneeded]
    outside = [name for name in needed if name in _OUTSIDE]
    inside = [name for name in needed if name not in {*outside, *_TRIED_OTHERWISE}]
    probe = client.partitions[0].probe
    asked = [
        tuple(probe if word == "{probe}" else word for word in _OUTSIDE[name]) for name in outside
    ]
    replies = await client.ask(0, *asked) if asked else []
    missing = [
        name
        for name, reply in zip(outside, replies, strict=True)
        if isinstance(reply, RightMissingError)
    ]
    if "MULTI" in needed and "EXEC" not in missing:
        reply, _ = await client.ask(0, *_EMPTY_TRANSACTION)
        missing += ["MULTI"] if isinstance(reply, RightMissingError) else []
    missing += await _refused_to_scripts(client, probe, inside)
    if missing:
        raise AccessRefusedError(missing_right(client.servers[0].pool, ", ".join(sorted(missing))))


async def _refused_to_scripts(client: Client, probe: str, commands: list[str]) -> list[str]:
    try:
        found = await ScriptRunner(client, drains=False).run("rights", Call(0, [probe], commands))
    except AccessRefusedError:
        raise
    except StreamUnavailableError as error:
        # Redis 6.2 has no scripts that may not write, and says so when it reads this one.
        if "script" in str(error).lower():
            return []
        raise
    return [name.decode() for name in found]
