"""Writes the stored results of the benchmarks into the pages of the documentation.

`python -m benchmarks.report`. A part between the marks `<!-- NAME -->` and `<!-- /NAME -->` is
that benchmark's report, or one of `PARTS`. A part whose results are missing stays as it is.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import msgspec

from benchmarks import goals, summary
from benchmarks.harness import PLOTS, RESULTS, ROOT
from benchmarks.tables import Line, Report, Table

PAGES = [
    ROOT / "docs" / "explanation" / name
    for name in ("performance.md", "performance-details.md", "scale.md")
]
PARTS: dict[str, Callable[[dict[str, Report]], str]] = {
    "in_short": summary.in_short,
    "behind": summary.behind,
    "ahead": summary.ahead,
    "goals": goals.compared,
}
"""Parts that are made of all results, by the names of their marks."""
_MARKED = re.compile(r"(<!-- (\w+) -->\n).*?(<!-- /\2 -->)", re.DOTALL)


def filled_in(page: str, reports: dict[str, Report]) -> str:
    """Return the page with each marked part replaced by its report. Other parts stay."""

    def section(found: re.Match[str]) -> str:
        name = found[2]
        if name in PARTS:
            text = PARTS[name](reports)
        else:
            text = in_markdown(reports[name]) if name in reports else ""
        return f"{found[1]}{text}\n{found[3]}" if text else found[0]

    return _MARKED.sub(section, page)


def in_markdown(report: Report) -> str:
    """Return a report as text: the machine, the tables with their plots, the notes."""
    machine = report.machine
    python = machine.get("interpreter", f"Python {machine['python']}")  # older results have none
    where = ", ".join([machine["cpu"], f"{machine['cores']} cores", machine["system"], python])
    names = (f"{name} {version}" for name, version in report.versions.items())
    pinned = "; ".join(f"{what}: {core}" for what, core in report.pinned.items())
    parts = [
        f"`{report.command}`, {report.date}, {_rounds(report)}.  ",
        f"{where}.  ",
        f"{', '.join(names)}.  ",
        f"Pinned: {pinned}.",
    ]
    for number, table in enumerate(report.tables, start=1):
        if table.column:
            continue
        columns = _columns_after(report.tables[number:])
        parts += ["", *(_grid(table) if table.is_grid else _table(table, columns))]
        plot = PLOTS / f"{report.name}-{number}.svg"
        if table.is_drawn and plot.exists():
            parts += ["", f"![{table.title}](performance/{plot.name})"]
    if report.notes:
        parts += ["", *(f"* {note}" for note in report.notes)]
    return "\n".join(parts)


def _columns_after(tables: list[Table]) -> list[Table]:
    columns = []
    for table in tables:
        if not table.column:
            break
        columns.append(table)
    return columns


def _table(table: Table, columns: list[Table]) -> list[str]:
    """Return a table in Markdown, with those that are its columns."""
    asked = "; ".join(each.target for each in (table, *columns) if each.target)
    ratio = ["ratio"] if table.against else []
    further = [f"{each.column}, {each.unit}" for each in columns]
    heads = ["", "median", "spread", *ratio, *further, ""]
    names = [line.name for line in table.lines]
    for each in columns:
        names += [line.name for line in each.lines if line.name not in names]
    rows = [
        f"**{table.title}** ({table.unit}).{f' Asked for: {asked}.' if asked else ''}",
        "",
        *_head(heads),
    ]
    return rows + [_row(_cells(table, columns, name)) for name in names]


def _cells(table: Table, columns: list[Table], name: str) -> list[str]:
    line = table.line(name)
    further = [(each, each.line(name)) for each in columns]
    note = next((one.note for one in (line, *(one for _, one in further)) if one and one.note), "")
    return [
        name,
        *_medians(table, line),
        *(each.text(one.median) if one else "" for each, one in further),
        note,
    ]


def _medians(table: Table, line: Line | None) -> list[str]:
    """Return the median, the spread, and the ratio where the table has one."""
    ratio = table.ratio(line) if line else None
    shown = [] if not table.against else ["" if ratio is None else f"{ratio:.2f}"]
    if line is None:
        return ["", "", *shown]
    spread = f"{table.text(min(line.values))} to {table.text(max(line.values))}"
    return [table.text(line.median), spread, *shown]


def _grid(table: Table) -> list[str]:
    """Return a table whose lines are named `NAME @ PLACE`: a row for each name, a column for each
    place. A ratio stands behind the median.
    """
    found = [(line.name.partition(" @ "), line) for line in table.lines]
    names = list(dict.fromkeys(name for (name, _, _), _ in found))
    places = list(dict.fromkeys(place for (_, _, place), _ in found))
    against = f" In brackets: the ratio to *{table.against}*." if table.against else ""
    asked = f" Asked for: {table.target}." if table.target else ""
    rows = [f"**{table.title}** ({table.unit}).{against}{asked}", "", *_head(["", *places])]
    for name in names:
        lines = [table.line(f"{name} @ {place}") for place in places]
        rows.append(_row([name, *(_cell(table, line) for line in lines)]))
    return rows


def _cell(table: Table, line: Line | None) -> str:
    if line is None:
        return ""
    ratio = table.ratio(line)
    is_base = line.name.partition(" @ ")[0] == table.against
    behind = "" if ratio is None or is_base else f" ({ratio:.2f})"
    return f"{table.text(line.median)}{behind}"


def _head(cells: list[str]) -> list[str]:
    aligned = ["---" if not cell else "---:" for cell in cells]
    return [_row(cells), f"|{'|'.join(aligned)}|"]


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def stored(folder: Path = RESULTS) -> dict[str, Report]:
    """Read the reports. Other files are ignored."""
    reports = {}
    for path in sorted(folder.glob("*.json")):
        try:
            report = msgspec.json.decode(path.read_bytes(), type=Report)
        except msgspec.ValidationError:
            continue
        reports[report.name] = report
    return reports


def main() -> None:
    reports = stored()
    for page in PAGES:
        page.write_text(filled_in(page.read_text(), reports))


def _rounds(report: Report) -> str:
    text = "1 round" if report.rounds == 1 else f"{report.rounds} rounds"
    return f"{text} in {report.seconds:,.0f} seconds" if report.seconds else text


if __name__ == "__main__":
    main()
