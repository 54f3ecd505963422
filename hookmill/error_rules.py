"""Which errors of a handler are tried again: its options `retry_on` and `dead_on`. No I/O.

An error is judged by the nearest of its base classes that one of the options names. An exception
group is judged by the errors in it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

from hookmill.errors import HandlersError

Errors: TypeAlias = tuple[type[BaseException], ...]


class ErrorRules:
    """Decides whether a message is worth another attempt after an error.

    Without classes, every error is. `dead_on`: errors of these classes are not. `retry_on`: only
    errors of these classes are.
    """

    __slots__ = ("_is_retried", "_retries_others")

    def __init__(self, retry_on: Errors, dead_on: Errors) -> None:
        self._is_retried = dict.fromkeys(retry_on, True) | dict.fromkeys(dead_on, False)
        self._retries_others = not retry_on

    def retries(self, error: BaseException) -> bool:
        """Return whether there is another attempt. Of a group, no error may forbid it."""
        return not self._is_retried or all(map(self._retries, leaves_of(error)))

    def _retries(self, error: BaseException) -> bool:
        # The order in which Python itself looks for an attribute: the most specific class first.
        for base in type(error).__mro__:
            if base in self._is_retried:
                return self._is_retried[base]
        return self._retries_others


RETRY_ALL = ErrorRules((), ())


def error_rules(shown: str, retry_on: Errors, dead_on: Errors, control: Errors) -> ErrorRules:
    """Check the two options of a handler of `shown`. Raises `HandlersError`.

    `control` are the control words, such as `Retry`: they are no errors.
    """
    if not retry_on and not dead_on:
        return RETRY_ALL
    for option, given in ("retry_on", retry_on), ("dead_on", dead_on):
        _check_classes(f"{option} of {shown!r}", given, control)
    if twice := [one.__name__ for one in retry_on if one in dead_on]:
        raise HandlersError(
            f"{shown!r} has {', '.join(twice)} in retry_on and in dead_on: remove it from one"
        )
    return ErrorRules(retry_on, dead_on)


def _check_classes(where: str, given: Errors, control: Errors) -> None:
    if not isinstance(given, tuple):
        raise HandlersError(f"{where}: give a tuple of exception classes, such as (ValueError,)")
    for one in given:
        if not (isinstance(one, type) and issubclass(one, BaseException)):
            raise HandlersError(f"{where}: {one!r} is not an exception class")
        if issubclass(one, control):
            raise HandlersError(f"{where}: {one.__name__} says itself what becomes of the message")
        if issubclass(one, BaseExceptionGroup):
            raise HandlersError(
                f"{where}: {one.__name__} is a group, and a group is judged by its errors: "
                "name their classes"
            )


def leaves_of(error: BaseException) -> Iterator[BaseException]:
    """Yield the errors in an exception group and in its groups; another error yields itself."""
    waiting = [error]
    while waiting:
        one = waiting.pop()
        if isinstance(one, BaseExceptionGroup):
            waiting.extend(reversed(one.exceptions))
        else:
            yield one
