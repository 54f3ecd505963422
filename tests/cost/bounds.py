"""The bounds of what a message costs: `bounds.toml` has the counts, and each may grow a little.

When a bound breaks, make the step cheaper. If it has to cost more, write the new counts with
`make cost ARGS=--write`, and say in the commit why.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path

from tests.cost.cases import Case

FILE = Path(__file__).with_name("bounds.toml")

ROOM = 1.03
"""How much more than written a step may cost, because versions of Python and of libraries differ.
Python 3.11 counts the most: 3.12 and 3.13 run up to a tenth fewer instructions for the same code.
"""

SMALL = {"calls": 0.2, "instructions": 2.0, "commands": 0.05}
"""What any count may grow besides: a batch of 200 messages may take one round trip more."""

UNITS = ("calls", "instructions")

HEAD = """\
# What a message costs in each step. Receiver and worker: [calls, instructions of Python]; Redis:
# [commands]. All are a message, counted with Python 3.11; a test allows 3 % more. Written by
# `make cost ARGS=--write`. When a bound breaks: make the step cheaper, or write the new counts and
# say in the commit why.
"""

Bounds = dict[str, dict[str, list[float]]]


def read_bounds() -> Bounds:
    """Return the counts that are written, by case and step."""
    return tomllib.loads(FILE.read_text())


def write_bounds(cases: Mapping[str, Case]) -> None:
    """Make these counts the bounds. Those of other cases stay."""
    counted = {
        name: {step: list(numbers) for step, numbers in case.each().items()}
        for name, case in cases.items()
    }
    lines = [HEAD]
    for name, steps in (read_bounds() | counted).items():
        lines.append(f'["{name}"]')
        lines += [f'"{step}" = {numbers}' for step, numbers in steps.items()]
        lines.append("")
    FILE.write_text("\n".join(lines))


def broken_bounds(name: str, case: Case, bounds: Bounds) -> list[str]:
    """Return a sentence for each step of a case that costs more than it may."""
    units = ("commands",) if case.commands else UNITS
    found = []
    for step, numbers in case.each().items():
        allowed = bounds.get(name, {}).get(step, [0.0] * len(numbers))
        for unit, number, most in zip(units, numbers, allowed, strict=True):
            if number > most * ROOM + SMALL[unit]:
                found.append(
                    f"{name}: the step {step!r} has {number:g} {unit} a message, and {most:g} are "
                    f"written in tests/cost/bounds.toml. In it: {case.parts_of(step)}"
                )
    return found
