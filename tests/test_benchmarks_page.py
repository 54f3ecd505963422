"""How results become the tables of the documentation, and what is said of them in short."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from benchmarks import goals, report, summary
from benchmarks.end_to_end import ALL_CPU, GO, LATENCY, OURS, RATE, cpu_of, later
from benchmarks.harness import ROOT
from benchmarks.receiver import BARE
from benchmarks.receiver import OURS as RECEIVER
from benchmarks.tables import Line, Report, Table

MACHINE = {"cpu": "C", "cores": "2", "system": "S", "python": "3"}


def made(name: str, *tables: Table) -> Report:
    return Report(name, "cmd", "today", MACHINE, {}, {}, 3, list(tables))


def table(title: str, values: dict[str, float], column: str = "") -> Table:
    lines = [Line(name, [value]) for name, value in values.items()]
    return Table(title, "ms", lines, column=column)


def end_to_end(*, ours: float, go: float) -> Report:
    """Results in which everything of ours is `ours`, and all of the other is `go`."""
    titles = (RATE, *map(cpu_of, ("receiver", "Redis", "worker")), ALL_CPU, LATENCY)
    values = {OURS: ours, GO: go}
    return made("end_to_end", *(table(t, values) for t in (*titles, later("p95"), later("p99"))))


def test_a_table_that_is_a_column_stands_beside_the_lines_of_the_table_before_it() -> None:
    first = table("Rate", {"ours": 2.0, "theirs": 4.0})
    text = report.in_markdown(
        made("worker", first, table("Memory", {"ours": 9.0, "more": 7.0}, "memory"))
    )
    assert "|  | median | spread | memory, ms |  |" in text
    assert "| ours | 2 | 2 to 2 | 9 |  |" in text
    assert "| theirs | 4 | 4 to 4 |  |  |" in text
    assert "| more |  |  | 7 |  |" in text
    assert "**Memory**" not in text


def test_a_grid_has_a_row_for_each_name_and_a_column_for_each_place() -> None:
    lines = [Line("bare @ 1 KB", [4.0]), Line("ours @ 1 KB", [2.0]), Line("bare @ 1 MB", [1.0])]
    grid = Table("T", "MB/s", lines, against="bare", chart="grid")
    text = report.in_markdown(made("bodies", grid))
    assert "|  | 1 KB | 1 MB |" in text
    assert "| bare | 4 | 1 |" in text
    assert "| ours | 2 (0.50) |  |" in text


def test_a_report_says_how_long_it_took_and_older_ones_do_not() -> None:
    older = made("worker")
    assert "3 rounds.  " in report.in_markdown(older)
    older.seconds = 61.4
    assert "3 rounds in 61 seconds.  " in report.in_markdown(older)


def test_what_is_behind_is_apart_from_what_is_ahead_and_the_worst_is_first() -> None:
    values = {BARE: 40.0, RECEIVER: 10.0, "Go": 20.0, "axum": 40.0, "FastAPI": 2.0}
    reports = {"receiver": made("receiver", table(summary.RECEIVED, values))}
    assert "| 0.25 of axum; 0.50 of Go |" in summary.behind(reports)
    assert "| 5.0 times FastAPI |" in summary.ahead(reports)


def test_of_a_cost_more_is_behind() -> None:
    reports = {"end_to_end": end_to_end(ours=3.0, go=2.0)}
    behind, ahead = summary.behind(reports), summary.ahead(reports)
    assert "| Redis' CPU time for a delivery | 1.5 times Go by hand |" in behind
    assert "| deliveries a second, from POST to handled | 1.5 times Go by hand |" in ahead


def test_a_million_deliveries_are_given_in_core_hours_too() -> None:
    text = summary.in_short({"end_to_end": end_to_end(ours=72.0, go=36.0)})
    assert "| 72 seconds, 0.020 core-hours | 36 seconds, 0.010 core-hours |" in text


@pytest.mark.parametrize(("measured", "said"), [(0.75, "reached"), (0.74, "**not reached**")])
def test_a_goal_is_reached_or_not(measured: float, said: str) -> None:
    given = table(summary.RECEIVED, {RECEIVER: measured, BARE: 1.0})
    text = goals.compared({"receiver": made("receiver", given)})
    assert f"| receiver, 64 connections: 0.75 of bare aiohttp | {measured} | {said} |" in text


def test_rows_without_results_are_left_out_and_a_part_without_rows_stays_as_it_was() -> None:
    page = "".join(f"<!-- {name} -->\nold\n<!-- /{name} -->\n" for name in report.PARTS)
    assert report.filled_in(page, {}) == page
    reports = {"receiver": made("receiver", table(summary.RECEIVED, {RECEIVER: 1.0}))}
    assert report.filled_in(page, reports).count("old") == 3  # one fact is known


def test_each_benchmark_of_the_pages_is_stored_under_the_name_of_its_mark() -> None:
    assert set(marks()) >= {"end_to_end", "receiver", "worker", "bodies", "memory", *report.PARTS}


def marks() -> Iterator[str]:
    for page in report.PAGES:
        for line in page.read_text().splitlines():
            if line.startswith("<!-- /"):
                yield line.removeprefix("<!-- /").removesuffix(" -->")


def test_make_bench_runs_every_benchmark_that_a_page_shows() -> None:
    makefile = (ROOT / "Makefile").read_text()
    line = next(line for line in makefile.splitlines() if line.startswith("TABLES = "))
    generated = {"capacity"}  # by docs/generate.py
    assert sorted(line.split()[2:]) == sorted(set(marks()) - set(report.PARTS) - generated)
