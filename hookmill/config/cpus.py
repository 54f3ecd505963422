"""How many CPUs this process may use: the machine's, less what its CPU set and cgroup deny it."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path, PurePosixPath

CGROUPS = Path("/sys/fs/cgroup")
OWN_GROUPS = Path("/proc/self/cgroup")


def usable_cpus(cgroups: Path = CGROUPS, own_groups: Path = OWN_GROUPS) -> int:
    """Return the number, at least 1. A limit of 2.5 CPUs counts as 2: a third process would only
    have the others wait.
    """
    try:
        found = len(os.sched_getaffinity(0))
    except AttributeError:  # not Linux
        found = os.cpu_count() or 1
    limits = [int(limit) for limit in _limits(cgroups, own_groups)]
    return max(1, min([found, *limits]))


def _limits(cgroups: Path, own_groups: Path) -> list[float]:
    """Return the limits of this process's cgroup and of those around it, in CPUs."""
    try:
        rows = own_groups.read_text().splitlines()
    except OSError:
        return []
    found: list[float | None] = []
    for row in rows:
        _, controllers, path = (*row.split(":", 2), "", "")[:3]
        names = controllers.split(",")
        if controllers and "cpu" not in names:
            continue
        # Within a container the path may be one of the host, which is not there: its own is on top.
        root = cgroups / "cpu" if controllers else cgroups
        inside = PurePosixPath(path.lstrip("/"))
        limit_of = _first_version if controllers else _second_version
        found += [limit_of(root / one) for one in (inside, *inside.parents)]
    return [limit for limit in found if limit is not None]


def _second_version(folder: Path) -> float | None:
    with suppress(OSError, ValueError, ZeroDivisionError):
        quota, period = (folder / "cpu.max").read_text().split()
        return int(quota) / int(period)
    return None


def _first_version(folder: Path) -> float | None:
    with suppress(OSError, ValueError, ZeroDivisionError):
        quota = int((folder / "cpu.cfs_quota_us").read_text())
        if quota > 0:  # -1: there is no limit
            return quota / int((folder / "cpu.cfs_period_us").read_text())
    return None
