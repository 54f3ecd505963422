"""A short order run for every `make test`. `make order` runs the long one and compares speeds."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.order import Crew, Row, Verdict, judge, keys_named
from tests.support import Server

KILLED = 7


@pytest.mark.parametrize("partitions", [1, 4])
async def test_each_key_keeps_its_order_although_two_of_four_workers_are_killed(
    server: Server, prefix: str, tmp_path: Path, partitions: int
) -> None:
    crew = Crew(tmp_path, server.url, prefix, partitions=partitions)
    verdict, _ = await crew.run(keys_named(40), 16, workers=4, kills=2, seed=7)
    assert verdict.holds, verdict
    assert verdict.messages == 640
    assert len(crew.killed) == 2
    # The killed workers held keys. Otherwise this test would not show what happens to them.
    assert verdict.run_again, (tmp_path / "ledger.txt").read_text()


def judge_lines(*lines: str) -> Verdict:
    """Judge a ledger of one key with three messages: "begin NUMBER PID" and "end NUMBER PID"."""
    rows = []
    for moment, line in enumerate(lines):
        what, number, pid = line.split()
        rows.append(Row(what == "end", "k", int(number), int(pid), float(moment)))
    return judge(rows, ["k"], 3, [KILLED])


WHOLE = ("begin 0 1", "end 0 1", "begin 1 2", "end 1 2", "begin 2 1", "end 2 1")


def test_messages_that_run_one_after_another_are_in_order() -> None:
    assert judge_lines(*WHOLE) == Verdict(3, missing=0, out_of_order=0, run_again=0, unexplained=0)
    assert judge_lines(*WHOLE).holds


@pytest.mark.parametrize("ended", [(), ("end 0 7",)])
def test_a_killed_workers_message_may_run_once_more_before_the_next(ended: tuple[str, ...]) -> None:
    verdict = judge_lines("begin 0 7", *ended, *WHOLE)
    assert verdict == Verdict(3, missing=0, out_of_order=0, run_again=1, unexplained=0)


def test_a_second_run_without_a_kill_is_unexplained() -> None:
    assert judge_lines("begin 0 1", *WHOLE).unexplained == 1


@pytest.mark.parametrize(
    "ledger",
    [
        ("begin 1 2", "end 1 2", "begin 0 1", "end 0 1", "begin 2 1", "end 2 1"),
        ("begin 0 1", "begin 1 2", "end 0 1", "end 1 2", "begin 2 1", "end 2 1"),
        ("begin 0 7", "begin 1 2", "end 1 2", "begin 0 1", "end 0 1", "begin 2 1", "end 2 1"),
        ("begin 0 7", "end 0 7", "begin 1 1", "begin 0 1", "end 0 1", "end 1 1", *WHOLE[4:]),
        ("begin 0 7", "end 0 7", "begin 0 1", "begin 1 1", "end 0 1", "end 1 1", *WHOLE[4:]),
    ],
    ids=[
        "the second first",
        "both at once",
        "before a killed worker's runs again",
        "run again while the next runs",
        "the next begins while the second run goes on",
    ],
)
def test_a_message_out_of_order_is_found(ledger: tuple[str, ...]) -> None:
    verdict = judge_lines(*ledger)
    assert verdict.out_of_order
    assert not verdict.holds


@pytest.mark.parametrize("ledger", [WHOLE[:4], WHOLE[:5], WHOLE[2:]])
def test_a_missing_message_is_found(ledger: tuple[str, ...]) -> None:
    assert judge_lines(*ledger).missing == 1
