"""Gives each secret of a source a name of its own, for logs and metrics. No I/O."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from hookmill.signatures import Secret


def with_names(secrets: Iterable[Secret], before: Sequence[Secret] = ()) -> tuple[Secret, ...]:
    """Return secrets with labels that differ: `file:github`, `file:github (2)` and so on.

    A secret that was there `before` keeps its label, so that in a rotation the label of one secret
    never passes on to another one that is there at the same time.
    """
    secrets = list(secrets)
    left = list(before)
    kept: dict[int, str] = {}
    for position, secret in enumerate(secrets):
        for known in left:
            if known.text == secret.text and _is_name_of(known.label, secret.label):
                left.remove(known)
                kept[position] = known.label
                break
    taken = set(kept.values())
    return tuple(
        secret._replace(label=kept[position] if position in kept else _free(secret.label, taken))
        for position, secret in enumerate(secrets)
    )


def _is_name_of(label: str, base: str) -> bool:
    return re.fullmatch(rf"{re.escape(base)}( \([0-9]+\))?", label) is not None


def _free(base: str, taken: set[str]) -> str:
    """Return the label with the lowest number that is free, and take it."""
    number, label = 1, base
    while label in taken:
        number += 1
        label = f"{base} ({number})"
    taken.add(label)
    return label
