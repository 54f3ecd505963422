"""Which tests are left out, and in which order the files come."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

import pytest

WAITING = (
    *("tests/receiver/test_revocation", "tests/e2e/", "tests/docs/", "tests/test_conftest"),
    *("tests/deploy/test_image", "tests/peers/", "tests/stream/test_cluster"),
)
"""Files that take long and mostly wait for programs, by how they begin."""

BETWEEN = 4
"""How many files that compute follow each one that waits. So both run at the same time, no core is
idle meanwhile, and no file that takes long is left for the end.
"""


ONCE = ("tests/admin/", "tests/cli/", "tests/config/", "tests/console/", "tests/emulator/")
"""Tests of rooms that speak to Redis only through `hookmill/stream/`, whose own tests run on every
server. So they run on one of them here; `make matrix` has them run on each.
"""


def mixed(tests_in: Counter[str]) -> list[str]:
    """Return the files in the order in which they run; of each kind those with most tests first."""
    files = [file for file, _ in tests_in.most_common()]
    computing = [file for file in files if not file.startswith(WAITING)]
    order = []
    for file in files:
        if file.startswith(WAITING):
            order += [file, *computing[:BETWEEN]]
            del computing[:BETWEEN]
    return order + computing


def file_of(item: pytest.Item) -> str:
    return item.nodeid.partition("::")[0]


def is_once_only(item: pytest.Item) -> bool:
    """Return whether a test need not run on a second server."""
    return item.get_closest_marker("one_server") is not None or item.nodeid.startswith(ONCE)


def is_before_7_0(item: pytest.Item) -> bool:
    """Return whether a test would run on a server that says that it is older than Redis 7.0."""
    params = getattr(getattr(item, "callspec", None), "params", {})
    return any(re.match("[a-z]*-?6", str(params.get(name, ""))) for name in ("server", "cluster"))


def is_second(item: pytest.Item, servers: Iterable[str]) -> bool:
    """Return whether a test would run on another server than the first."""
    callspec = getattr(item, "callspec", None)  # only tests with parameters have one
    first = next(iter(servers))
    return callspec is not None and callspec.params.get("server", first) != first
