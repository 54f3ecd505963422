"""Which server holds which keys."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.crc import key_slot

from hookmill.stream.topology import SLOTS, ServerList, server_list_of, slot_of, tag_of


@given(st.text(alphabet="{}ab:\u00fc", max_size=12))
def test_a_key_has_the_slot_that_the_redis_client_reckons(key: str) -> None:
    assert slot_of(key) == key_slot(key.encode())


@pytest.mark.parametrize(
    ("base", "shards"), [(1, 1), (2, 2), (3, 3), (4, 2), (4, 4), (6, 3), (12, 4), (16, 8), (64, 4)]
)
def test_partitions_are_spread_evenly_over_the_shards_of_a_cluster(base: int, shards: int) -> None:
    for several in (base, 2 * base):
        tags = [tag_of(number, base) for number in range(several)]
        owners = [slot_of(tag) * shards // SLOTS for tag in tags]
        assert [owners.count(shard) for shard in range(shards)] == [several // shards] * shards


def test_each_partition_has_a_tag_of_its_own_also_after_the_stream_has_grown() -> None:
    for base in (1, 3, 5, 8):
        assert len({tag_of(number, base) for number in range(8 * base)}) == 8 * base


def test_a_tag_never_changes() -> None:
    assert [tag_of(number, 3) for number in range(6)] == ["50", "12", "0", "3", "60", "13"]


@pytest.mark.parametrize(
    ("url", "servers"),
    [
        ("redis://h/1", ServerList("one", ("redis://h/1",), "redis://h/1")),
        ("unix:///a", ServerList("one", ("unix:///a",), "unix:///a")),
        (
            "redis+cluster://h1:1,h2:2",
            ServerList("cluster", ("redis://h1:1", "redis://h2:2"), "redis://h1:1"),
        ),
        (
            "rediss+cluster://u:p%2C@h1,[::1]:2?ssl_cert_reqs=none",
            ServerList(
                "cluster",
                (
                    "rediss://u:p%2C@h1?ssl_cert_reqs=none",
                    "rediss://u:p%2C@[::1]:2?ssl_cert_reqs=none",
                ),
                "rediss://u:p%2C@h1?ssl_cert_reqs=none",
            ),
        ),
        (
            "redis+sentinel://u:p@h1,h2:7000/main/3?sentinel_password=s%25&socket_timeout=1",
            ServerList(
                "sentinel",
                (
                    "redis://:s%25@h1:26379?socket_timeout=1",
                    "redis://:s%25@h2:7000?socket_timeout=1",
                ),
                "redis://u:p@h1/3?socket_timeout=1",
                "main",
            ),
        ),
        (
            "redis+sentinel://[::1]/my%20main",
            ServerList("sentinel", ("redis://[::1]:26379",), "redis://[::1]", "my main"),
        ),
    ],
)  # fmt: skip
def test_a_url_names_servers(url: str, servers: ServerList) -> None:
    assert server_list_of(url) == servers
