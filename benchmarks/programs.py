"""Installs and builds the programs that are measured, into `.bench/`, at their pinned versions.

Each function returns the command of a program. It raises `LookupError` with the reason if the
program cannot be had: its toolchain is missing, or its installation fails.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

from benchmarks import interpreter
from benchmarks.harness import ROOT, progress, tool

PEERS = ROOT / "benchmarks" / "peers"
PROGRAMS = ROOT / ".bench"
"""The folder of the peers' environments and programs."""

Command = list[str | Path]

_PINS = {
    "*.txt": r"^(?:py)?{}==(\S+)$",
    "go/go.mod": r"/{}(?:/v\d+)? v(\S+)$",
    "*/Cargo.toml": r'^{} = .*"=([^"]+)"',
    "node/package.json": r'^ +"{}": "(\d[^"]*)"',
}
"""Where the peers' versions are pinned, and how."""

_CRATE = re.compile(r'^(version = ".+"\n)(checksum = )', re.MULTILINE)
_CRATES_IO = 'source = "registry+https://github.com/rust-lang/crates.io-index"'
"""Cargo's own name of the registry that it uses by default."""


def python_peer(name: str, *arguments: str) -> Command:
    """Return the command of `peers/with_NAME.py`, in an environment of its own."""
    return [environment(name), PEERS / f"with_{name}.py", *arguments]


def go_peer(name: str, *arguments: str) -> Command:
    """Return the command of the Go program `peers/go/NAME`. Go builds only what has changed."""
    go, binary = _toolchain("go", name), PROGRAMS / "go" / name
    if not binary.exists():
        progress(f"building {name}")
    _run(name, go, "build", "-o", str(binary), f"./{name}", cwd=PEERS / "go")
    return [binary, *arguments]


def rust_peer(name: str, *arguments: str) -> Command:
    """Return the command of the Rust program `peers/NAME`. Cargo builds only what has changed."""
    cargo, copy = _toolchain("cargo", name), PROGRAMS / "rust" / name
    shutil.copytree(PEERS / name, copy, ignore=shutil.ignore_patterns("target"), dirs_exist_ok=True)
    (copy / "Cargo.lock").write_text(with_sources((PEERS / name / "Cargo.lock").read_text()))
    target = PROGRAMS / "rust" / "target"
    binary = target / "release" / name
    if not binary.exists():
        progress(f"building {name}, which takes a minute or two")
    build = ["build", "--release", "--locked", "--quiet", "--target-dir", str(target)]
    _run(name, cargo, *build, cwd=copy)
    return [binary, *arguments]


def node_peer(name: str) -> Command:
    """Return the command of the Node script `peers/node/NAME.js`. All share one installation."""
    node, npm = _toolchain("node", name), _toolchain("npm", name)
    source, copy = PEERS / "node", PROGRAMS / "node"
    wanted, stamp = (source / "package-lock.json").read_text(), copy / "installed.txt"
    shutil.copytree(source, copy, ignore=shutil.ignore_patterns("node_modules"), dirs_exist_ok=True)
    if not stamp.exists() or stamp.read_text() != wanted:
        progress(f"installing the peers in Node into {copy.relative_to(ROOT)}")
        # No package's own scripts run: what they would build is optional.
        _run(name, npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", cwd=copy)
        stamp.write_text(wanted)
    return [node, copy / f"{name}.js"]


def with_sources(lock: str) -> str:
    """Return a Cargo.lock with the lines `source`, which Cargo needs. Our locks leave them out,
    because they name versions and hashes, and never the host of a registry.
    """
    return _CRATE.sub(rf"\1{_CRATES_IO}\n\2", lock)


def _toolchain(tool_name: str, name: str) -> str:
    found = tool(tool_name)
    if found is None:
        raise LookupError(f"{name} is left out: {tool_name} is not installed")
    return found


def environment(name: str) -> Path:
    """Return the Python of a peer's environment, and create the environment if it is missing.

    Raises `LookupError` with the reason if that fails.
    """
    pins = PEERS / f"{name}.txt"
    wanted = f"{interpreter.identity()}\n{pins.read_text()}"  # all programs run on one interpreter
    folder = PROGRAMS / name
    python = folder / "bin" / "python"
    stamp = folder / "installed.txt"
    if not stamp.exists() or stamp.read_text() != wanted:
        progress(f"installing {name} into {folder.relative_to(ROOT)}")
        _run(name, sys.executable, "-m", "venv", "--clear", str(folder))
        _run(name, str(python), "-m", "pip", "install", "--quiet", "-r", str(pins))
        stamp.write_text(wanted)
    return python


@cache
def installed() -> Path:
    """Return the Python of an environment that has Hookmill without extras, at locked versions.

    It is the same as after `pip install hookmill`.
    """
    folder = PROGRAMS / "hookmill"
    lines = (ROOT / "locks" / "run.txt").read_text().splitlines()
    locked = "\n".join(line.removesuffix(" \\") for line in lines if not line.startswith(" "))
    constraints, stamp = folder / "constraints.txt", folder / "installed.txt"
    wanted = f"{interpreter.identity()}\n{ROOT}\n{(ROOT / 'pyproject.toml').read_text()}\n{locked}"
    if not stamp.exists() or stamp.read_text() != wanted:
        progress(f"installing Hookmill into {folder.relative_to(ROOT)}")
        _run("hookmill", sys.executable, "-m", "venv", "--clear", str(folder))
        constraints.write_text(locked)
        install = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet"]
        _run("hookmill", *install, "-c", str(constraints), "-e", str(ROOT))
        stamp.write_text(wanted)
    return folder / "bin" / "python"


def pinned_version(package: str) -> str:
    """Return the version of a peer's package, from the file that pins it."""
    for files, pattern in _PINS.items():
        for path in sorted(PEERS.glob(files)):
            found = re.search(pattern.format(re.escape(package)), path.read_text(), re.MULTILINE)
            if found:
                return found[1]
    return "?"


def toolchains() -> dict[str, str]:
    """Return the versions of Go, Cargo and Node, if they are installed."""
    found = {}
    for name, argument in (("go", "version"), ("cargo", "version"), ("node", "--version")):
        if path := tool(name):
            done = subprocess.run([path, argument], capture_output=True, text=True, check=True)
            found[name] = re.findall(r"\d[\d.]+", done.stdout)[0]
    return found


def _run(name: str, *command: str, cwd: Path | None = None) -> None:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr or done.stdout).strip().rpartition("\n")[2]
        raise LookupError(f"{name} could not be installed: {last}")
