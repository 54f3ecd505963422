"""Families of commands, whose texts are checked once for all of them.

A word of the command line that is not UTF-8 reaches Python with halves of surrogate pairs. Neither
Redis nor JSON can hold them, and no stored name, ID or key has them, so such a word is refused.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import typer
from typer.core import TyperCommand

from hookmill.printable import encodable

F = TypeVar("F", bound=Callable[..., Any])

_OF_A_DELIVERY = frozenset({"body", "header", "secret", "secret_env"})
"""Parameters that are taken as the bytes that they are: parts of a delivery, and its secrets."""


class Commands(typer.Typer):
    """A family of commands that refuse texts which are not UTF-8."""

    def command(self, name: str | None = None, **options: Any) -> Callable[[F], F]:
        """Return a decorator that adds a command, as typer's own does."""
        return super().command(name, cls=_Command, **options)


class _Command(TyperCommand):
    def make_context(self, *args: Any, **options: Any) -> Any:
        context = super().make_context(*args, **options)
        parameters: list[Any] = self.params
        for one in parameters:
            if one.name not in _OF_A_DELIVERY and not _is_text(context.params.get(one.name)):
                raise typer.BadParameter("it is not UTF-8, as all that is stored is", context, one)
        return context


def _is_text(value: object) -> bool:
    """Return whether UTF-8 can express a value of an option, or each of its values."""
    if isinstance(value, list | tuple):
        return all(map(_is_text, value))
    return not isinstance(value, str) or value == encodable(value)
