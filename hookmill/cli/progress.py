"""The bar that a command shows on a terminal while it works. rich is imported only then."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from hookmill.cli.output import console

Advance = Callable[[int, str], None]
"""Shows how many are done, and a text before the bar."""


@contextmanager
def bar(what: str, total: int | None, *, hidden: bool = False) -> Iterator[Advance]:
    """Show a bar on stderr, if that is a terminal, until the block ends. With `total` None nobody
    knows how much there is. `what` must be our own text.
    """
    screen = console(stderr=True)
    if hidden or not screen.is_terminal:
        yield lambda _completed, _text: None
        return
    from rich.progress import Progress

    with Progress(console=screen, transient=True) as shown:
        task = shown.add_task(what, total=total)
        yield lambda completed, text: shown.update(task, description=text, completed=completed)
