"""The tables of the benchmarks: what they hold, and how they look on a terminal and as a drawing.

`report` writes them into the documentation.
"""

from __future__ import annotations

import statistics
from pathlib import Path

import msgspec

from benchmarks import plots


class Line(msgspec.Struct):
    """A line of a table: a value for each round, and its ratio to the line named `against`."""

    name: str
    values: list[float]
    note: str = ""

    @property
    def median(self) -> float:
        """The median of the rounds."""
        return statistics.median(self.values)


class Table(msgspec.Struct):
    """A table with a title. It is printed, stored and drawn.

    `against` names the line that the others are compared with. `target` is the goal, in words.
    `chart` is how it looks: `bars`; or `curves` or a `grid`, whose lines are named `NAME @ PLACE`.
    `column` is the heading of a table that the page shows as a column of the table before it.
    """

    title: str
    unit: str
    lines: list[Line] = []
    against: str = ""
    target: str = ""
    chart: str = "bars"
    digits: int = 0
    column: str = ""

    def put(self, name: str, value: float, note: str = "") -> None:
        """Add a round's value to a line; the first value creates the line."""
        line = self.line(name)
        if line is None:
            line = Line(name, [])
            self.lines.append(line)
        line.values.append(value)
        line.note = note or line.note

    def line(self, name: str) -> Line | None:
        """Return the line of this name."""
        return next((line for line in self.lines if line.name == name), None)

    def ratio(self, line: Line) -> float | None:
        """Return the ratio of a line's median to that of the line named `against`; in a grid, to
        that of the same place.
        """
        if not self.against:
            return None
        _, at, place = line.name.partition(" @ ")
        base = self.line(f"{self.against}{at}{place}" if self.is_grid else self.against)
        return line.median / base.median if base and base.median else None

    def text(self, number: float) -> str:
        """Return a number with the digits of this table."""
        return f"{number:,.{self.digits}f}"

    @property
    def is_grid(self) -> bool:
        """Whether its lines are named `NAME @ PLACE`."""
        return self.chart in {"curves", "grid"}

    @property
    def is_drawn(self) -> bool:
        """Whether it has a drawing: a column and a grid are read more easily as they are."""
        return not self.column and self.chart != "grid"


class Report(msgspec.Struct):
    """All results of a benchmark, and the machine."""

    name: str
    command: str
    date: str
    machine: dict[str, str]
    versions: dict[str, str]
    pinned: dict[str, str]
    rounds: int
    tables: list[Table] = []
    notes: list[str] = []
    seconds: float = 0.0
    """How long the run took. Older results do not say it."""

    def table(self, title: str) -> Table | None:
        """Return the table of this title."""
        return next((table for table in self.tables if table.title == title), None)


def in_words(table: Table) -> str:
    """Return a table as text for a terminal."""
    rows = cells(table)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    text = [f"{table.title} ({table.unit})"]
    for row in rows:
        first, *rest = (
            cell.ljust(width) if number in {0, len(row) - 1} else cell.rjust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        text.append(("  " + "  ".join([first, *rest])).rstrip())
    if table.target:
        text.append(f"  asked for: {table.target}")
    return "\n".join(text)


def cells(table: Table) -> list[list[str]]:
    """Return rows as text, the headings first."""
    rows = [["", "median", "lowest", "highest", "ratio", ""]]
    for line in table.lines:
        ratio = table.ratio(line)
        numbers = [line.median, min(line.values), max(line.values)]
        shown = "" if ratio is None else f"{ratio:.2f}"
        rows.append([line.name, *map(table.text, numbers), shown, line.note])
    return rows


def draw(report: Report, folder: Path) -> None:
    """Draw the tables of a report in place of the drawings that there were."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob(f"{report.name}-[0-9]*.svg"):
        old.unlink()
    for number, table in enumerate(report.tables, start=1):
        if table.is_drawn:
            (folder / f"{report.name}-{number}.svg").write_text(_drawing(table))


def _drawing(table: Table) -> str:
    title = f"{table.title} ({table.unit})"
    if table.chart == "curves":
        found: dict[str, list[tuple[float, float]]] = {}
        for line in table.lines:
            name, _, at = line.name.rpartition(" @ ")
            found.setdefault(name, []).append((float(at), line.median))
        rows = [plots.Curve(name, points) for name, points in found.items()]
        return plots.curves(title, "processes", rows, digits=table.digits)
    bars = [
        plots.Bar(line.name, line.median, min(line.values), max(line.values))
        for line in table.lines
    ]
    return plots.bars(title, bars, digits=table.digits)
