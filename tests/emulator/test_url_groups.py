"""URL groups."""

from __future__ import annotations

import pytest

from hookmill.emulator.models import ApiError, Endpoint
from tests.emulator.brokers import TimedBroker

A, B = Endpoint("http://a.example/", "a"), Endpoint("http://b.example/")


def test_endpoints_are_added_renamed_and_removed_by_url_or_name() -> None:
    url_groups = TimedBroker().broker.url_groups
    url_groups.add("site", [A, B])
    url_groups.add("site", [Endpoint(B.url, "b"), Endpoint("http://c.example/", "c")])
    assert [one.name for one in url_groups.get("site").endpoints] == ["a", "b", "c"]
    url_groups.remove("site", [Endpoint(A.url), Endpoint("", "c")])
    assert [one.name for one in url_groups.get("site").endpoints] == ["b"]
    with pytest.raises(ApiError, match="endpoint 'a' not found"):
        url_groups.remove("site", [A])
    url_groups.remove("site", [Endpoint(B.url)])
    assert url_groups.all() == [], "with its last endpoint the group is gone"


def test_an_unknown_group_is_not_found() -> None:
    url_groups = TimedBroker().broker.url_groups
    for act in (url_groups.get, url_groups.drop, lambda name: url_groups.remove(name, [A])):
        with pytest.raises(ApiError, match="URL group 'site' not found"):
            act("site")
    url_groups.add("site", [A])
    url_groups.drop("site")
    assert url_groups.all() == []
