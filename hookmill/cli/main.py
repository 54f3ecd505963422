"""The `hookmill` command: its subcommands, and how an error ends.

Commands import what they need when they run, so that `hookmill --help` loads no server.
"""

from __future__ import annotations

import errno
import io
import os
import sys
import traceback
from contextlib import suppress
from typing import NoReturn

from hookmill.cli import (
    audit,
    dead,
    deliveries,
    forward,
    groups,
    health,
    log_level,
    message,
    operation,
    pauses,
    plan,
    programs,
    refused,
    replay,
    schema,
    spool,
    stacks,
    tail,
)
from hookmill.cli.commands import Commands
from hookmill.cli.output import say_error
from hookmill.errors import HandlersError, HookmillError, SettingsError, UsageError
from hookmill.runtime.escaped_stderr import escape_stderr

_OUTPUT_FAULTS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}

app = Commands(
    help="Webhooks in, work done.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain help, because drawing boxes takes as long as everything else
)

for command in (
    programs.receiver,
    programs.worker,
    programs.console,
    programs.dev,
    programs.qstash,
    deliveries.send,
    deliveries.verify,
    operation.status,
    operation.check,
    health.health,
    stacks.stacks,
    log_level.log_level,
    pauses.pause,
    pauses.resume,
    message.message,
    audit.audit,
    replay.replay,
    schema.schema,
    plan.plan,
    tail.tail,
    forward.forward,
):
    app.command()(command)
app.add_typer(dead.app, name="dead")
app.add_typer(groups.app, name="group")
app.add_typer(refused.app, name="refused")
app.add_typer(spool.app, name="spool")


def main() -> None:
    """Run the command line. An error of ours ends in a few clear lines instead of a traceback.

    The exit status is 2 where the settings or handlers have to be changed first, and 1 for all else
    that was not done.
    """
    escape_stderr()
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A character that the encoding of the output does not have is shown as an escape.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        app()
    except SettingsError as error:
        for fault in error.faults:
            say_error(fault)
        sys.exit(2)
    except HookmillError as error:
        say_error(str(error))
        sys.exit(2 if isinstance(error, HandlersError | UsageError) else 1)
    except Exception as error:  # noqa: BLE001 - its traceback is written, with escapes
        if isinstance(error, OSError) and error.errno in _OUTPUT_FAULTS:
            _end_without_output(error)
        say_error("an unexpected error, please report it:\n" + traceback.format_exc().rstrip("\n"))
        sys.exit(1)


def _end_without_output(error: OSError) -> NoReturn:
    with suppress(OSError):
        say_error(f"the output cannot be written: {error.strerror}")
    # Python writes at its end what is left of the output, and would end with 120 if it cannot.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(1)
