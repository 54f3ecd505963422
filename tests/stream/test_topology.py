"""Which server holds which keys."""

from __future__ import annotations

from hookmill.stream.topology import Topology


def test_one_server_holds_the_keys_of_every_place() -> None:
    topology = Topology(("redis://one",))
    assert {topology.server_of(place) for place in (0, 7, "qstash", "hookmill:partitions")} == {0}
