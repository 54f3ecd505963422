"""The options with which commands select messages, and how their texts are read."""

from __future__ import annotations

import functools
import inspect
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from hookmill.printable import printable

if TYPE_CHECKING:
    from hookmill.admin.body_paths import Condition
    from hookmill.admin.filters import DeadLetterFilter, Selection

T = TypeVar("T")

Source = Annotated[str | None, typer.Option(help="Only this source; * stands for any text.")]
Type = Annotated[
    str | None, typer.Option("--type", help="Only this event type; * stands for any text: post.*")
]
_Handler = Annotated[str | None, typer.Option(help="Only those of this handler.")]
_Reason = Annotated[str | None, typer.Option(help="Only those with this reason.")]
Key = Annotated[str | None, typer.Option(help="Only this ordering key; * stands for any text.")]
_Error = Annotated[
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
_After = Annotated[
    str | None,
    typer.Option(
        metavar="TIME",
        help="Dead since then or later: 2026-11-21T09:30 (UTC), or 2h for 2 hours ago.",
    ),
]
_Before = Annotated[
    str | None, typer.Option(metavar="TIME", help="Dead since before then. As for --after.")
]
_Limit = Annotated[int | None, typer.Option(min=1, help="At most this many.")]
_Newest = Annotated[bool, typer.Option("--newest", help="The newest first, instead of the oldest.")]

_NOT_IMPORTED = {"DeadLetterFilter": Any, "Selection": Any}
"""What readers of options return. Its classes are not imported for --help."""


def with_options(
    **readers: Callable[..., object],
) -> Callable[[Callable[..., T]], Callable[..., T]]:
    """Give a command the options of a reader: after `with_options(wanted=read)` it has those of
    `read` in the place of its parameter `wanted`, which gets what `read` returns for them.
    """

    def give(command: Callable[..., T]) -> Callable[..., T]:
        own = inspect.signature(command, eval_str=True, locals=_NOT_IMPORTED)
        options = {
            name: inspect.signature(read, eval_str=True, locals=_NOT_IMPORTED).parameters
            for name, read in readers.items()
        }

        @functools.wraps(command)
        def run(**given: Any) -> T:
            read = {
                name: readers[name](**{option: given.pop(option) for option in of_reader})
                for name, of_reader in options.items()
            }
            return command(**given, **read)

        merged: list[inspect.Parameter] = []
        for name, parameter in own.parameters.items():
            merged += options[name].values() if name in options else [parameter]
        # typer reads both of these.
        run.__annotations__ = {one.name: one.annotation for one in merged}
        run.__signature__ = own.replace(parameters=merged)  # type: ignore[attr-defined]  # the name that inspect gives it
        return run

    return give


def dead_letter_filter(  # noqa: PLR0913 - an option each
    *,
    source: Source = None,
    event_type: Type = None,
    handler: _Handler = None,
    reason: _Reason = None,
    key: Key = None,
    error: _Error = None,
    where: Where = None,
    after: _After = None,
    before: _Before = None,
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


@with_options(wanted=dead_letter_filter)
def dead_letter_selection(
    *, wanted: DeadLetterFilter, limit: _Limit = None, newest: _Newest = False
) -> Selection:
    """Return the selection that the options of a command say."""
    from hookmill.admin.filters import Selection

    return Selection(filter=wanted, limit=limit, newest_first=newest)


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
