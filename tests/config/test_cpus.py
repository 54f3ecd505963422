"""How many CPUs may be used: the machine's, less what a CPU set or a cgroup denies."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hookmill.config.cpus import usable_cpus

HERE = 8
"""The CPUs of the machine of these tests."""


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(HERE)), raising=False)


def cpus(folder: Path, own: str, **files: str) -> int:
    """The number where the process is in these cgroups and the files have these limits."""
    (folder / "own").write_text(own)
    for name, text in files.items():
        path = folder / "cgroup" / name.replace("__", "/").replace("_max", ".max")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return usable_cpus(folder / "cgroup", folder / "own")


def test_without_limits_all_of_the_cpu_set_are_used(tmp_path: Path) -> None:
    assert usable_cpus(tmp_path / "missing", tmp_path / "missing") == HERE
    assert cpus(tmp_path, "0::/\n", cpu_max="max 100000\n") == HERE


@pytest.mark.parametrize(
    ("quota", "expected"), [("250000", 2), ("200000", 2), ("50000", 1), ("9900000", HERE)]
)
def test_a_container_may_have_a_part_of_them(quota: str, expected: int, tmp_path: Path) -> None:
    assert cpus(tmp_path, "0::/\n", cpu_max=f"{quota} 100000\n") == expected


def test_the_limit_of_a_group_around_the_own_one_counts(tmp_path: Path) -> None:
    limits = {"system.slice__cpu_max": "300000 100000", "system.slice__a__cpu_max": "max 100000"}
    assert cpus(tmp_path, "0::/system.slice/a\n", **limits) == 3


def test_the_first_version_of_cgroups_is_read_too(tmp_path: Path) -> None:
    own = "5:memory:/x\n3:cpu,cpuacct:/docker/abc\n0::/\n"
    files = {"cpu__cpu.cfs_quota_us": "150000", "cpu__cpu.cfs_period_us": "50000"}
    assert cpus(tmp_path, own, **files) == 3
    assert cpus(tmp_path, own, **{"cpu__cpu.cfs_quota_us": "-1"}) == HERE


def test_what_cannot_be_read_is_no_limit(tmp_path: Path) -> None:
    assert cpus(tmp_path, "nonsense\n0::/\n", cpu_max="100000 0") == HERE
    assert cpus(tmp_path, "0::/\n", cpu_max="many") == HERE
