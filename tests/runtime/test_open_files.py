"""The limit of open files, and how many connections it allows."""

from __future__ import annotations

import resource
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hookmill.runtime.open_files import KEPT, MOST, allowed_connections, limit, raise_limit


@given(st.none() | st.integers(1, 10**6), st.integers(1, 2**31))
def test_connections_never_take_the_files_that_everything_else_needs(
    connections: int | None, files: int
) -> None:
    allowed = allowed_connections(connections, files)
    assert 1 <= allowed <= (connections or MOST)
    assert files - allowed >= min(KEPT, files * 3 // 4, files - 1)


@pytest.mark.parametrize(
    ("hard", "connections", "raised"),
    [(1024, None, 1024), (1024, 100, 300), (20_000, None, 10_192), (256, None, 256)],
)
def test_a_process_raises_its_limit_as_far_as_it_needs_and_may(
    hard: int, connections: int | None, raised: int
) -> None:
    if hard > resource.getrlimit(resource.RLIMIT_NOFILE)[1]:
        pytest.skip("this process may not have so many open files")
    code = (
        "import resource; from hookmill.runtime.open_files import raise_limit; "
        f"resource.setrlimit(resource.RLIMIT_NOFILE, ({min(hard, 300)}, {hard})); "
        f"raise_limit({connections}); print(resource.getrlimit(resource.RLIMIT_NOFILE))"
    )
    got = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert got.stdout.strip() == f"({raised}, {hard})"


@pytest.mark.parametrize(("kernel", "raised"), [(6000, 5096), (200, 256)])
@pytest.mark.parametrize("error", [ValueError, OSError])
def test_a_limit_that_the_kernel_refuses_ends_no_start(
    kernel: int, raised: int, error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = [256, resource.RLIM_INFINITY]

    def set_limits(_: int, wanted: tuple[int, int]) -> None:
        if wanted[0] > kernel:
            raise error("Invalid argument")
        limits[:] = wanted

    monkeypatch.setattr(resource, "getrlimit", lambda _: tuple(limits))
    monkeypatch.setattr(resource, "setrlimit", set_limits)
    raise_limit(None)
    assert limits == [raised, resource.RLIM_INFINITY]


def test_the_limit_of_this_process_is_read() -> None:
    assert limit() == resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    assert limit() <= limit(hard=True)
