"""A short chaos run for every `make test`. `make chaos` runs the long one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.ledger import (
    Ledger,
    PastFault,
    PastPause,
    PastReplay,
    Run,
    Steered,
    are_explained,
    begun_while_paused,
    count_broken_order,
)
from tests.chaos.run import Chaos
from tests.chaos.schedule import KINDS, LEASE, Fault, schedule
from tests.chaos.site import Death
from tests.chaos.watch import growth
from tests.support import server_binaries


@pytest.mark.timeout(600)  # it starts a dozen programs and freezes them for seconds
async def test_no_message_is_lost_and_none_runs_twice_or_out_of_order_without_a_fault(
    tmp_path: Path,
) -> None:
    chaos = Chaos(tmp_path, messages=3_000, faults=10, seed=7, binary=server_binaries()["valkey"])
    verdict = await chaos.run()
    assert verdict.accepted == 3_000
    assert verdict.faults == 10
    assert verdict.is_good, verdict
    assert (chaos.stuck, chaos.watch.ended) == ("", [])
    assert verdict.handled + len(verdict.dead) >= 3_000
    assert len(chaos.senders.in_order) > 300
    assert sum(map(len, chaos.senders.in_order.values())) == 1_500


def test_the_same_seed_gives_the_same_schedule() -> None:
    assert schedule(1, 50, 100_000) == schedule(1, 50, 100_000)
    assert schedule(1, 50, 100_000) != schedule(2, 50, 100_000)


def test_a_schedule_of_fifty_has_every_kind_of_fault_spread_over_the_run() -> None:
    faults = schedule(3, 50, 100_000)
    assert {fault.kind for fault in faults} == set(KINDS)
    moments = [fault.after for fault in faults]
    assert moments == sorted(moments)
    assert moments[0] < 4_000
    assert moments[-1] > 96_000


# --- how the order is judged -----------------------------------------------------------------

FROZEN, OTHER, THIRD = 1, 2, 3


def judged(*, freeze: float = 0.0, **runs: list[Run]) -> tuple[int, int]:
    """Judge one key with the messages `a` and `b`, sent in that order. The worker FROZEN is frozen
    for `freeze` seconds from second 10 on.
    """
    faults = [PastFault(Fault(0, "freeze worker", 0, freeze), 10.0, 10.0 + freeze, FROZEN)]
    return count_broken_order([["a", "b"]], runs, faults if freeze else [])


def test_one_after_another_is_in_order() -> None:
    assert judged(a=[Run(OTHER, 1, 2)], b=[Run(OTHER, 3, 4)]) == (0, 0)
    # The first worker was killed, so the message ran again.
    assert judged(a=[Run(OTHER, 1, None), Run(FROZEN, 5, 6)], b=[Run(OTHER, 7, 8)]) == (0, 0)


def test_a_message_that_began_before_an_earlier_one_ended_is_disordered() -> None:
    assert judged(a=[Run(OTHER, 3, 4)], b=[Run(OTHER, 1, 2)]) == (0, 1)
    assert judged(a=[Run(OTHER, 1, 3)], b=[Run(OTHER, 2, 4)]) == (0, 1)
    assert judged(a=[Run(OTHER, 1, None), Run(OTHER, 5, 6)], b=[Run(OTHER, 2, 4)]) == (0, 1)


def test_a_second_run_beside_the_next_message_is_disordered_unless_its_worker_was_frozen() -> None:
    run_twice = [Run(FROZEN, 9, 10 + LEASE), Run(OTHER, 9 + LEASE, 9.1 + LEASE)]
    next_run = [Run(OTHER, 9.2 + LEASE, 10.5 + LEASE)]
    assert judged(a=run_twice, b=next_run) == (0, 1)
    assert judged(a=run_twice, b=next_run, freeze=LEASE) == (1, 0)
    assert judged(a=run_twice, b=next_run, freeze=LEASE / 10) == (0, 1)


def test_a_freeze_does_not_excuse_a_message_that_began_too_early() -> None:
    assert judged(a=[Run(FROZEN, 9, 20)], b=[Run(OTHER, 12, 13)], freeze=LEASE) == (0, 1)


def test_memory_is_flat_if_its_last_quarter_is_like_its_second() -> None:
    def samples(*levels: float) -> list[tuple[float, float]]:
        return [(10.0 * n, level) for n, level in enumerate(levels)]

    assert growth(samples(60, 300, 80, 80, 80, 80, 80, 80, 500)) == (80, 80)
    assert growth(samples(60, 70, 80, 90, 100, 110, 120, 130, 140)) == (90, 130)


# --- how a second run is judged ----------------------------------------------------------------


def explained(run: Run, *past: PastFault, died: float | None = None, why: str = "kill") -> bool:
    """Judge a run after which the message ran again."""
    deaths = {} if died is None else {run.pid: Death(died, why)}
    return are_explained([run, Run(THIRD, 100, 101)], past, deaths)


def test_a_second_run_is_explained_if_the_worker_died_before_it_acknowledged() -> None:
    assert explained(Run(OTHER, 1, 2), died=2 + LEASE)
    assert explained(Run(OTHER, 1, None), died=50)
    assert not explained(Run(OTHER, 1, 2), died=2 + 4 * LEASE)
    assert not explained(Run(OTHER, 5, 6), died=4)
    assert not explained(Run(OTHER, 1, 2))


def test_a_worker_that_was_asked_to_stop_explains_nothing() -> None:
    assert not explained(Run(OTHER, 1, 2), died=2, why="stop")


def test_a_second_run_is_explained_by_a_silence_beyond_the_lease_and_by_no_other_fault() -> None:
    def fault(kind: str, seconds: float, pid: int = OTHER) -> PastFault:
        return PastFault(Fault(0, kind, 0, seconds), 10.0, 10.0 + seconds, pid)

    run = Run(OTHER, 9, 11)
    assert explained(run, fault("freeze worker", LEASE))
    assert not explained(run, fault("freeze worker", LEASE / 10))
    assert not explained(run, fault("freeze worker", LEASE, pid=FROZEN))
    assert explained(run, fault("half-open", 0))
    assert explained(run, fault("switch, sessions kept", 0))
    for kind in ("clock step", "slow line", "cut connections", "kill redis", "freeze redis"):
        assert not explained(run, fault(kind, 2 * LEASE, pid=0))


def test_a_run_of_a_worker_that_came_back_too_late_is_explained() -> None:
    frozen = PastFault(Fault(0, "freeze worker", 0, 4), 10.0, 14.0, FROZEN)
    done, late = Run(OTHER, 13, 13.1), Run(FROZEN, 14.1, 14.2)
    assert are_explained([done, late], [frozen], {})
    assert not are_explained([done, late], [], {FROZEN: Death(14.15, "kill")})
    assert not are_explained([done, late._replace(pid=THIRD)], [frozen], {})
    assert not are_explained([done, done, late], [frozen], {})


# --- how pauses and replays are judged -----------------------------------------------------------


def test_what_is_paused_may_begin_within_a_second_or_where_its_worker_was_frozen() -> None:
    pause = PastPause("all", lambda one: one == "a", 10.0, 20.0)

    def judged(began: float, message_id: str = "a", pid: int = OTHER) -> bool:
        runs = {message_id: [Run(pid, began, began + 0.1)]}
        frozen = PastFault(Fault(0, "freeze worker", 0, LEASE), 13.0, 13.0 + LEASE, FROZEN)
        return not [*begun_while_paused(runs, [pause], [frozen])]

    assert judged(9.9)
    assert judged(10.9)
    assert not judged(11.1)
    assert judged(11.1, "b")
    assert judged(13.1 + LEASE, pid=FROZEN)
    assert not judged(19.9)
    assert judged(20.1)


def test_a_replay_explains_one_more_run_and_has_to_be_followed_by_it(tmp_path: Path) -> None:
    first, later, third = Run(OTHER, 1, 2), Run(OTHER, 5, 6), Run(OTHER, 7, 8)
    assert are_explained([first, later], [], {}, replays=1)
    assert not are_explained([first, later, third], [], {}, replays=1)

    def judged(replayed: int, began: float, dead: dict[str, str]) -> int:
        ledger = Ledger(tmp_path)
        ledger.runs.update({"a": [first, later], "b": [first], "c": [first, later]})
        replay = PastReplay(lambda one: one in {"a", "b"}, began, replayed)
        return ledger.judge({}, [], dead, [], {}, Steered(replays=[replay])).not_replayed

    assert judged(1, 3.0, {}) == 0
    assert judged(2, 3.0, {}) == 1
    assert judged(2, 3.0, {"b": "error"}) == 0
    assert judged(1, 5.5, {}) == 1
