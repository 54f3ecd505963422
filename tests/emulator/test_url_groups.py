"""URL groups."""

from __future__ import annotations

import pytest

from hookmill.emulator.models import ApiError, Endpoint
from tests.emulator.brokers import Trial

A, B = Endpoint("http://a.example/", "a"), Endpoint("http://b.example/")


def test_endpoints_are_added_renamed_and_removed_by_url_or_name() -> None:
    topics = Trial().desk.topics
    topics.add("site", [A, B])
    topics.add("site", [Endpoint(B.url, "b"), Endpoint("http://c.example/", "c")])
    assert [one.name for one in topics.get("site").endpoints] == ["a", "b", "c"]
    topics.remove("site", [Endpoint(A.url), Endpoint("", "c")])
    assert [one.name for one in topics.get("site").endpoints] == ["b"]
    with pytest.raises(ApiError, match="endpoint 'a' not found"):
        topics.remove("site", [A])
    topics.remove("site", [Endpoint(B.url)])
    assert topics.all() == [], "with its last endpoint the group is gone"


def test_a_group_that_is_not_there_is_not_found() -> None:
    topics = Trial().desk.topics
    for act in (topics.get, topics.drop, lambda name: topics.remove(name, [A])):
        with pytest.raises(ApiError, match="topic 'site' not found"):
            act("site")
    topics.add("site", [A])
    topics.drop("site")
    assert topics.all() == []
