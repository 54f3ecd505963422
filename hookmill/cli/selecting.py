"""The options with which commands select messages, and how their texts are read."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from hookmill.printable import printable

if TYPE_CHECKING:
    from hookmill.admin.body_paths import Condition
    from hookmill.admin.filters import DeadLetterFilter

Source = Annotated[str | None, typer.Option(help="Only this source; * stands for any text.")]
Type = Annotated[
    str | None, typer.Option("--type", help="Only this event type; * stands for any text: post.*")
]
Handler = Annotated[str | None, typer.Option(help="Only those of this handler.")]
Reason = Annotated[str | None, typer.Option(help="Only those with this reason.")]
Key = Annotated[str | None, typer.Option(help="Only this ordering key; * stands for any text.")]
Error = Annotated[
    str | None,
    typer.Option(metavar="FINGERPRINT", help="Only this error, as `dead groups` shows it."),
]
Where = Annotated[
    list[str] | None,
    typer.Option(
        metavar="PATH=VALUE",
        help="Only those with this value in the body: data.order.total=12, or with a pattern: "
        "data.email~*@example.org. Can be given several times.",
    ),
]
After = Annotated[
    str | None,
    typer.Option(
        metavar="TIME",
        help="Dead since then or later: 2026-11-21T09:30 (UTC), or 2h for 2 hours ago.",
    ),
]
Before = Annotated[
    str | None, typer.Option(metavar="TIME", help="Dead since before then. As for --after.")
]


def dead_letter_filter(  # noqa: PLR0913 - an option each
    *,
    source: str | None,
    event_type: str | None,
    handler: str | None,
    reason: str | None,
    key: str | None,
    error: str | None,
    where: list[str] | None,
    after: str | None,
    before: str | None,
) -> DeadLetterFilter:
    """Return the filter that the options of a command say. Ends the command if one is wrong."""
    from hookmill.admin.filters import DeadLetterFilter
    from hookmill.admin.fingerprints import is_fingerprint

    if error is not None and not is_fingerprint(error):
        raise typer.BadParameter(
            f"--error {printable(error)}: give a fingerprint, as `hookmill dead groups` shows it"
        )
    return DeadLetterFilter(
        source=source,
        type=event_type,
        handler=handler,
        reason=reason,
        key=key,
        error=error,
        where=conditions(where),
        after_ms=moment("--after", after),
        before_ms=moment("--before", before),
    )


def conditions(texts: list[str] | None) -> tuple[Condition, ...]:
    """Read what --where says."""
    from hookmill.admin.body_paths import BodyPathError, condition_of

    try:
        return tuple(condition_of(text) for text in texts or ())
    except BodyPathError as error:
        raise typer.BadParameter(f"--where {printable(str(error))}") from None


def moment(option: str, text: str | None) -> int | None:
    """Read a time, in Unix milliseconds."""
    from hookmill.admin.filters import moment_ms

    if text is None:
        return None
    try:
        return moment_ms(text, time.time())
    except ValueError:
        raise typer.BadParameter(
            f"{option} {printable(text)}: give a time such as 2026-11-21T09:30, or how long ago: "
            "30m, 2h, 7d"
        ) from None
