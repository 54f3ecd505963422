"""`hookmill send` and `hookmill verify`: make a delivery as its sender would, and explain one."""

from __future__ import annotations

import math
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from hookmill.cli.options import AsJSON, SourceName
from hookmill.cli.output import fail, say, say_json
from hookmill.cli.start import read_settings, run


def send(
    *,
    source: SourceName = "qstash",
    url: Annotated[
        str | None, typer.Option(help="Where to post; default: the receiver on this machine.")
    ] = None,
    body: Annotated[
        str | None, typer.Option(help="The body; default: one that fits the sender.")
    ] = None,
    body_file: Annotated[
        Path | None, typer.Option(help="A file with the body; - for standard input.")
    ] = None,
    message_id: Annotated[
        str | None,
        typer.Option("--id", help="Message ID; default: a new one. A given body is not changed."),
    ] = None,
    event_type: Annotated[
        str | None, typer.Option("--type", help="Event type. A given body is not changed.")
    ] = None,
    forged: Annotated[
        bool, typer.Option("--forged", help="Change the delivery after signing.")
    ] = False,
) -> None:
    """Sign and post one delivery exactly as the sender would. Exit 0 when it is accepted."""
    from hookmill.debug import simulate, targets

    settings = read_settings()
    url = url or targets.default_url(source, settings)
    sender = targets.sender_for(source, url, settings)
    raw = None if body is None else body.encode("utf-8", "surrogateescape")
    answer = run(
        simulate.deliver(
            sender.preset, sender.scheme, url, _read(body_file) if body_file else raw,
            message_id=message_id or simulate.fresh_message_id(), event_type=event_type or "",
            signed_url=sender.url, forged=forged,
        )
    )  # fmt: skip
    say(f"{answer.status} {answer.text}".rstrip())
    raise typer.Exit(0 if 200 <= answer.status < 300 else 1)


def verify(  # noqa: PLR0913 - an option each
    *,
    source: SourceName,
    body_file: Annotated[
        Path, typer.Option(help="The body, byte for byte as it came; - for standard input.")
    ],
    header: Annotated[
        list[str] | None, typer.Option(metavar="'NAME: VALUE'", help="A header, as it came.")
    ] = None,
    secret: Annotated[
        list[str] | None, typer.Option(help="A secret. Shells keep it in their history.")
    ] = None,
    secret_file: Annotated[
        list[Path] | None, typer.Option(help="A file with secrets, one a line.")
    ] = None,
    secret_env: Annotated[
        list[str] | None, typer.Option(metavar="VARIABLE", help="A variable with a secret.")
    ] = None,
    now: Annotated[
        float | None, typer.Option(metavar="UNIX", help="Time at which it came; default: now.")
    ] = None,
    method: Annotated[str, typer.Option(help="The request's method.")] = "POST",
    url: Annotated[
        str | None, typer.Option(help="The URL that the sender was given, with the query.")
    ] = None,
    as_json: AsJSON = False,
) -> None:
    """Judge a captured delivery, and say why. It uses no network, and shows no secret.

    Without a secret, the source's own secrets are used. Exit 0: valid, 1: refused, 2: it could not
    be judged.
    """
    # Long because: each option of the command is a parameter with its help.
    from hookmill.debug import diagnose, targets

    if now is not None and not math.isfinite(now):
        raise typer.BadParameter("--now: give a Unix time in seconds, such as 1779460951")
    given = targets.secrets_given(secret or [], secret_file or [], secret_env or [])
    captured = targets.Captured(header or [], _read(body_file, status=2), method, url)
    case, identify = targets.case_for(source, captured, given, read_settings())
    report = diagnose.verify(case, time.time() if now is None else now, identify)
    if as_json:
        say_json(report)
    else:
        for line in report.lines:
            say(line)
    raise typer.Exit(report.exit_status)


def _read(path: Path, status: int = 1) -> bytes:
    """Read a file, or standard input for "-"; end with this exit status where that fails."""
    if str(path) == "-":
        return sys.stdin.buffer.read()
    try:
        return path.read_bytes()
    except OSError as error:
        fail(f"{path}: {error.strerror}", status)
