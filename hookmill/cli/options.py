"""Options and arguments that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

Target = Annotated[
    str | None,
    typer.Argument(metavar="MODULE:ATTRIBUTE", help="The handlers; default: HOOKMILL_HANDLERS."),
]
Name = Annotated[
    str | None, typer.Option(help="A name for this process, in each of its log lines.")
]
Processes = Annotated[
    str | None,
    typer.Option(
        metavar="NUMBER|auto",
        help="Processes to run, under a parent; auto: one for each CPU; default: "
        "HOOKMILL_PROCESSES.",
    ),
]
AsJSON = Annotated[bool, typer.Option("--json", help="One JSON object a line.")]
Group = Annotated[
    str | None, typer.Option("--group", help="Consumer group; default: HOOKMILL_GROUP.")
]
Who = Annotated[
    str | None,
    typer.Option(
        "--as",
        metavar="NAME",
        help="Who does it, for `hookmill audit`; default: HOOKMILL_OPERATOR.",
    ),
]
Why = Annotated[str, typer.Option(metavar="TEXT", help="The reason, for `hookmill audit`.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")]
SourceName = Annotated[
    str, typer.Option("--source", metavar="NAME", help="A configured source, or any known sender.")
]
