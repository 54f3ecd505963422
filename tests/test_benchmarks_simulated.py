"""The simulated fleet: what comes in goes out, and what goes wrong stays where it is."""

from __future__ import annotations

import pytest

from benchmarks.simulated import Faults, Fleet
from benchmarks.simulation import fleet_of, nodes_of
from hookmill.admin.capacity import CapacityPlan, Load, plan
from hookmill.admin.measured import MEASURED


@pytest.fixture(scope="module")
def small() -> CapacityPlan:
    """Two shards that are hardly used, so that a short run says enough."""
    load = Load(rate=4_000, handler=0.005, window=60, server_memory=2e9, outage=2_400)
    found = plan(load, MEASURED)
    assert found.shards.masters >= 2
    return found


def test_a_planned_fleet_handles_what_comes_and_takes_no_longer_than_planned(
    small: CapacityPlan,
) -> None:
    shards = Fleet(small, Faults()).run(1.0)
    rate = small.load.rate / small.shards.masters
    for shard in shards:
        assert shard.handled == pytest.approx(rate, rel=0.2)
        assert shard.waits < rate * 0.02
        assert shard.worked < small.load.utilisation
        assert shard.refused == 0


def test_a_run_is_the_same_each_time(small: CapacityPlan) -> None:
    one, other = (Fleet(small, Faults()).run(0.2) for _ in range(2))
    assert [shard.latencies for shard in one] == [shard.latencies for shard in other]


def test_a_lost_shard_refuses_and_its_neighbour_does_not(small: CapacityPlan) -> None:
    lost, other = Fleet(small, Faults(0.2, 1.3, no_shard=True)).run(1.5)
    assert lost.refused > 0
    assert other.refused == 0
    assert other.handled > lost.handled * 2


def test_too_few_slots_for_slow_handlers_leave_a_backlog(small: CapacityPlan) -> None:
    small.workers.concurrency, usual = 20, small.workers.concurrency
    few = Fleet(small, Faults(0.0, 1.0, slow_share=0.5)).run(1.0)
    small.workers.concurrency = usual
    enough = Fleet(small, Faults(0.0, 1.0)).run(1.0)
    assert sum(shard.waits for shard in few) > 10 * sum(shard.waits for shard in enough)


def test_a_fleet_is_the_largest_that_so_many_nodes_make_up() -> None:
    found = fleet_of(10, 0.02)
    assert nodes_of(found.load.rate, 0.02) <= 10 < nodes_of(found.load.rate + 1, 0.02)
