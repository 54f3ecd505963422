"""Writes the stored results of the benchmarks into docs/explanation/performance.md.

`python -m benchmarks.report`
"""

from __future__ import annotations

import re
from pathlib import Path

import msgspec

from benchmarks.harness import PLOTS, RESULTS, ROOT, Line, Report, Table

PAGE = ROOT / "docs" / "explanation" / "performance.md"
_MARKED = re.compile(r"(<!-- (\w+) -->\n).*?(<!-- /\2 -->)", re.DOTALL)


def filled_in(page: str, reports: dict[str, Report]) -> str:
    """Return the page with each marked part replaced by its report. Other parts stay."""

    def section(found: re.Match[str]) -> str:
        report = reports.get(found[2])
        return f"{found[1]}{in_markdown(report)}\n{found[3]}" if report else found[0]

    return _MARKED.sub(section, page)


def in_markdown(report: Report) -> str:
    """Return a report as text: the machine, the tables with their plots, the notes."""
    machine = report.machine
    python = machine.get("interpreter", f"Python {machine['python']}")  # older results have none
    where = ", ".join([machine["cpu"], f"{machine['cores']} cores", machine["system"], python])
    names = (f"{name} {version}" for name, version in report.versions.items())
    pinned = "; ".join(f"{what}: {core}" for what, core in report.pinned.items())
    parts = [
        f"`{report.command}`, {report.date}, {_rounds(report.rounds)}.  ",
        f"{where}.  ",
        f"{', '.join(names)}.  ",
        f"Pinned: {pinned}.",
    ]
    for number, table in enumerate(report.tables, start=1):
        parts += ["", *_table(table)]
        plot = PLOTS / f"{report.name}-{number}.svg"
        if plot.exists():
            parts += ["", f"![{table.title}]({plot.relative_to(PAGE.parent).as_posix()})"]
    if report.notes:
        parts += ["", *(f"* {note}" for note in report.notes)]
    return "\n".join(parts)


def _table(table: Table) -> list[str]:
    asked = f" Asked for: {table.target}." if table.target else ""
    heads = ["", "median", "spread", *(["ratio"] if table.against else []), ""]
    rows = [
        f"**{table.title}** ({table.unit}).{asked}",
        "",
        f"| {' | '.join(heads)} |",
        f"|---|{'---:|' * (len(heads) - 2)}---|",
    ]
    return rows + [f"| {' | '.join(_cells(table, line))} |" for line in table.lines]


def _cells(table: Table, line: Line) -> list[str]:
    def text(number: float) -> str:
        return f"{number:,.{table.digits}f}"

    spread = f"{text(min(line.values))} to {text(max(line.values))}"
    ratio = table.ratio(line)
    shown = [] if not table.against else ["" if ratio is None else f"{ratio:.2f}"]
    return [line.name, text(line.median), spread, *shown, line.note]


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
    PAGE.write_text(filled_in(PAGE.read_text(), stored()))


def _rounds(count: int) -> str:
    return "1 round" if count == 1 else f"{count} rounds"


if __name__ == "__main__":
    main()
