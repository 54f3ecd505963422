"""A short chaos run for every `make test`; `make chaos` is the long one."""

from __future__ import annotations

from pathlib import Path

from tests.chaos import Chaos, schedule
from tests.support import server_binaries


async def test_nothing_is_lost_and_nothing_runs_twice_without_cause(tmp_path: Path) -> None:
    chaos = Chaos(tmp_path, messages=3_000, faults=8, seed=7, binary=server_binaries()["valkey"])
    verdict = await chaos.run()
    assert verdict.accepted == 3_000
    assert verdict.faults == 8
    assert (verdict.lost, verdict.unexplained) == (0, 0), verdict
    assert verdict.handled + verdict.dead >= 3_000


def test_the_same_seed_is_the_same_schedule() -> None:
    assert schedule(1, 50, 100_000) == schedule(1, 50, 100_000)
    assert schedule(1, 50, 100_000) != schedule(2, 50, 100_000)


def test_a_schedule_of_fifty_has_every_kind_of_fault_spread_over_the_run() -> None:
    faults = schedule(3, 50, 100_000)
    assert {fault.kind for fault in faults} == {
        *("kill worker", "freeze worker", "stop worker", "kill receiver", "freeze receiver"),
        *("kill redis", "freeze redis", "cut connections"),
    }
    moments = [fault.after for fault in faults]
    assert moments == sorted(moments)
    assert moments[0] < 4_000
    assert moments[-1] > 96_000
