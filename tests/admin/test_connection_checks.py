"""The judgement on connections: what a fleet of workers leaves for receivers."""

from __future__ import annotations

import msgspec
import pytest

from hookmill.admin.connection_checks import judge_connections
from hookmill.stream.facts import Heartbeat
from tests.admin.facts import SOUND, WORKED, levels, with_groups


@pytest.mark.parametrize(
    ("workers", "limit", "in_use", "expected"),
    [
        (1000, 10_000, 5_000, []),
        (
            200,
            1_050,
            1_000,
            [
                (
                    "warning",
                    "200 workers need up to 1,000 connections; Redis takes 1,050 (maxclients)",
                )
            ],
        ),
        (
            12,
            60,
            60,
            [("error", "12 workers need up to 60 connections; Redis takes 60 (maxclients)")],
        ),
        (10, 1_000, 900, [("warning", "900 of 1,000 connections (maxclients) are in use")]),
        (10, 0, 900, []),
    ],
)
def test_workers_must_leave_connections_for_receivers(
    workers: int, limit: int, in_use: int, expected: list[tuple[str, str]]
) -> None:
    server = msgspec.structs.replace(SOUND, maxclients=limit, clients=in_use)
    fleet = tuple(Heartbeat(name=f"w{number}", lease=30.0) for number in range(workers))
    group = msgspec.structs.replace(WORKED, heartbeats=fleet)
    other = msgspec.structs.replace(group, name="other")  # the same names: counted once
    found = list(judge_connections(server, with_groups(group, other)))
    assert levels(*found) == expected
