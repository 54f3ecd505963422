"""The names of the keys in Redis."""

from __future__ import annotations

from hookmill.stream.keys import Keys


def test_all_keys_of_a_partition_share_its_hash_tag() -> None:
    keys = Keys("hookmill", partition=3)
    names = [keys.stream, keys.probe, *keys.of_group("main")]
    assert all(name.startswith("hookmill:{3}:") for name in names)
    assert len(set(names)) == len(names) - 1  # the stream is named twice
