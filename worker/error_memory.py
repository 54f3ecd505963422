"""Frees what the error of a failed handler keeps in memory."""

from __future__ import annotations


def release_frames(error: BaseException) -> None:
    """Take the tracebacks from an error, and from all errors that it is linked with.

    A traceback holds the frames of the handler with all their variables, the message's body too.
    Where a variable holds the error in turn (a task that was awaited, for example), this would stay
    in memory until the garbage collector runs. So call it once the error has been formatted.
    """
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        one = waiting.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        one.__traceback__ = None
        waiting += [one.__cause__, one.__context__]
        if isinstance(one, BaseExceptionGroup):
            waiting += one.exceptions
