"""A short order run for every `make test`; `make order` is the long one, which also times it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.order import Crew, Row, Verdict, judge, keys_named
from tests.support import Server

KILLED = 7


@pytest.mark.parametrize("partitions", [1, 4])
async def test_order_holds_for_each_key_though_two_of_four_workers_are_killed(
    server: Server, prefix: str, tmp_path: Path, partitions: int
) -> None:
    crew = Crew(tmp_path, server.url, prefix, partitions=partitions)
    verdict, _ = await crew.run(keys_named(40), 16, workers=4, kills=2, seed=7)
    assert verdict.holds, verdict
    assert verdict.messages == 640
    assert len(crew.killed) == 2
    # The dead ones held keys, or this shows nothing of those that move on.
    assert verdict.again, (tmp_path / "ledger.txt").read_text()


def told(*lines: str) -> Verdict:
    """Judge a ledger of one key with three messages: "begin NUMBER PID" and "end NUMBER PID"."""
    rows = []
    for moment, line in enumerate(lines):
        what, number, pid = line.split()
        rows.append(Row(what == "end", "k", int(number), int(pid), float(moment)))
    return judge(rows, ["k"], 3, [KILLED])


WHOLE = ("begin 0 1", "end 0 1", "begin 1 2", "end 1 2", "begin 2 1", "end 2 1")


def test_one_after_another_holds() -> None:
    assert told(*WHOLE) == Verdict(3, missing=0, overtaken=0, again=0, unexplained=0)
    assert told(*WHOLE).holds


@pytest.mark.parametrize("ended", [(), ("end 0 7",)])
def test_a_killed_workers_message_may_run_once_more_before_the_next(ended: tuple[str, ...]) -> None:
    verdict = told("begin 0 7", *ended, *WHOLE)
    assert verdict == Verdict(3, missing=0, overtaken=0, again=1, unexplained=0)


def test_a_second_run_without_a_kill_is_unexplained() -> None:
    assert told("begin 0 1", *WHOLE).unexplained == 1


@pytest.mark.parametrize(
    "ledger",
    [
        ("begin 1 2", "end 1 2", "begin 0 1", "end 0 1", "begin 2 1", "end 2 1"),
        ("begin 0 1", "begin 1 2", "end 0 1", "end 1 2", "begin 2 1", "end 2 1"),
        ("begin 0 7", "begin 1 2", "end 1 2", "begin 0 1", "end 0 1", "begin 2 1", "end 2 1"),
        ("begin 0 7", "end 0 7", "begin 1 1", "begin 0 1", "end 0 1", "end 1 1", *WHOLE[4:]),
        ("begin 0 7", "end 0 7", "begin 0 1", "begin 1 1", "end 0 1", "end 1 1", *WHOLE[4:]),
    ],
    ids=["out of order", "at a time", "past a killed worker's", "again too late", "beside that"],
)
def test_what_was_overtaken_is_seen(ledger: tuple[str, ...]) -> None:
    verdict = told(*ledger)
    assert verdict.overtaken
    assert not verdict.holds


@pytest.mark.parametrize("ledger", [WHOLE[:4], WHOLE[:5], WHOLE[2:]])
def test_what_is_missing_is_seen(ledger: tuple[str, ...]) -> None:
    assert told(*ledger).missing == 1
