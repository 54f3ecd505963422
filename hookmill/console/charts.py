"""Lines over time, as values that a template draws with SVG. No I/O.

Only attributes of presentation are used: the strict policy for contents allows no `style`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from hookmill.admin.units import count

WIDTH, HEIGHT = 600, 120

MOST_LINES = 5
"""Lines of a chart. What comes after them is added up as one more."""


class Line(NamedTuple):
    """A line: its name, the sum of its values, and its points as SVG writes them."""

    name: str
    total: int
    points: str


class Chart(NamedTuple):
    """A chart: its title, its lines, and its largest value in words. `label` says it all."""

    title: str
    lines: list[Line]
    most: str
    span: str
    label: str


def chart_of(title: str, series: Mapping[str, Sequence[int]], step: int, length: int) -> Chart:
    """Return a chart of series of `length` steps, each of `step` seconds, the largest first."""
    shown = dict(list(series.items())[:MOST_LINES])
    if rest := list(series.values())[MOST_LINES:]:
        shown[f"{len(rest)} others"] = [sum(each) for each in zip(*rest, strict=True)]
    most = max((max(values) for values in shown.values()), default=0)
    lines = [Line(name, sum(values), _points(values, most)) for name, values in shown.items()]
    step_name = "a minute" if step == 60 else f"in {step // 60} minutes"
    span = f"the last {'hour' if step * length <= 3600 else 'day'}"
    total = count(sum(line.total for line in lines), "in all", "in all")
    label = f"{title}: {total} during {span}, at most {most:,} {step_name}"
    return Chart(title, lines, f"{most:,} {step_name}", span, label)


def _points(values: Sequence[int], most: int) -> str:
    across = WIDTH / max(1, len(values) - 1)
    scale = (HEIGHT - 4) / max(1, most)
    return " ".join(
        f"{at * across:.1f},{HEIGHT - 2 - value * scale:.1f}" for at, value in enumerate(values)
    )
