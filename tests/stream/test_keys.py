"""The names of the keys in Redis: a running release is upgraded, so they never change."""

from __future__ import annotations

from hookmill.stream.keys import Keys


def test_all_keys_of_a_partition_share_its_hash_tag() -> None:
    keys = Keys("hookmill", partition=3)
    group = keys.of_group("main")._asdict()
    for name in ("wake", "sooner", "due", "releaser"):
        del group[name]
    names = [keys.stream, keys.probe, *group.values()]
    assert all(name.startswith("hookmill:{3}:") for name in names)
    assert len(set(names)) == len(names) - 1  # the stream is named twice


def test_the_wake_ups_of_all_partitions_on_one_server_are_one_key() -> None:
    for partition in (0, 3, 63):
        keys = Keys("hookmill", partition)
        assert keys.wake == "hookmill:{0}:wake"
        group = keys.of_group("main")
        assert group.wake == "hookmill:{0}:main:wake"
        assert group.due == "hookmill:{0}:main:due"
        assert group.releaser == "hookmill:{0}:main:releaser"
        assert group.sooner == "hookmill:{0}:main:sooner"


def test_the_names_are_those_of_release_0_1() -> None:
    keys = Keys("hookmill")
    assert (keys.stream, keys.backlog, keys.tokens) == (
        "hookmill:{0}:stream",
        "hookmill:{0}:backlog",
        "hookmill:{0}:tokens",
    )
    group = keys.of_group("main")._asdict()
    new = {"heartbeats", "heartbeat_times", "lease_numbers", "looks", "watched", "deliveries"}
    new |= {"wake", "due", "releaser", "first_sights", "gate", "history", "paused"}
    new |= {"moves", "replays", "dead_reasons", "dead_recount"}
    new |= {"moves", "replays", "stacks"}
    assert {name: key for name, key in group.items() if name not in new} == {
        "stream": "hookmill:{0}:stream",
        "again": "hookmill:{0}:main:again",
        "delayed": "hookmill:{0}:main:delayed",
        "delayed_entries": "hookmill:{0}:main:delayed:entries",
        "sooner": "hookmill:{0}:main:sooner",
        "dead": "hookmill:{0}:main:dead",
        "owners": "hookmill:{0}:main:owners",
        "low_water": "hookmill:{0}:main:low-water",
        "suspects": "hookmill:{0}:main:suspects",
        "busy": "hookmill:{0}:main:busy",
        "parked": "hookmill:{0}:main:parked",
        "sweep": "hookmill:{0}:main:sweep",
        "counts": "hookmill:{0}:main:counts",
        "upkeep": "hookmill:{0}:main:upkeep",
    }


def test_the_names_that_came_with_release_0_2() -> None:
    group = Keys("hookmill").of_group("main")
    assert group.heartbeats == "hookmill:{0}:main:heartbeats"
    assert group.heartbeat_times == "hookmill:{0}:main:heartbeats:times"
    assert group.lease_numbers == "hookmill:{0}:main:lease-numbers"
    assert group.looks == "hookmill:{0}:main:looks"
    assert group.watched == "hookmill:{0}:main:watched"
    assert group.deliveries == "hookmill:{0}:main:deliveries"
    assert group.first_sights == "hookmill:{0}:main:first-sights"
    assert group.paused == "hookmill:{0}:main:paused"
    assert group.history == "hookmill:{0}:main:history"
    assert group.moves == "hookmill:{0}:main:again:moves"
    assert group.replays == "hookmill:{0}:main:replays"
    assert Keys("hookmill").audit == "hookmill:{0}:audit"
    assert Keys("hookmill").log_levels == "hookmill:{0}:log-levels"
    assert Keys("hookmill").redact == "hookmill:{0}:redact"
    assert Keys("hookmill").refused == "hookmill:{0}:refused"


def test_a_script_builds_the_names_of_any_groups_keys_from_their_parts() -> None:
    keys, group = Keys("p", 2), Keys("p", 2).of_group("orders")
    before, *after = keys.group_parts
    assert [f"{before}orders{end}" for end in after] == [
        *(group.again, group.delayed, group.parked, group.counts, group.busy, group.low_water),
        group.paused,
    ]
