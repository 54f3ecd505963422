"""Runs programs for Node in the tests. Their packages are installed with npm."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

import pytest


class Node(NamedTuple):
    """A folder with npm packages, and the path of Node, which runs programs there."""

    binary: str
    folder: Path

    def ask(self, program: str, given: Any, timeout: float = 90.0) -> Any:
        """Run an ES module of the folder. It reads `given` as JSON from its input and writes JSON
        to its output, which is returned.
        """
        done = subprocess.run(
            [self.binary, program],
            cwd=self.folder,
            input=json.dumps(given).encode(),
            capture_output=True,
            timeout=timeout,
            check=False,
        )
        assert done.returncode == 0, done.stderr.decode()
        return json.loads(done.stdout)

    async def run(self, program: str, given: Any) -> Any:
        """Do the same without blocking the event loop, which may have to answer the program."""
        # A subprocess of asyncio has a thread that waits for it, which may outlive the test.
        return await asyncio.to_thread(self.ask, program, given)


def node_with(folder: Path, program: Path, *packages: str) -> Node:
    """Copy a program into a folder and install its packages there. Skip the test if Node or npm is
    missing, or if npm cannot fetch the packages.
    """
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        pytest.skip("node and npm are not installed")
    (folder / "package.json").write_text('{"private": true, "type": "module"}')
    shutil.copy(program, folder)
    install = [npm, "install", "--no-audit", "--no-fund", "--ignore-scripts", *packages]
    try:
        done = subprocess.run(install, cwd=folder, capture_output=True, timeout=100, check=False)
    except subprocess.TimeoutExpired:
        pytest.skip("the npm registry did not answer in time")
    if done.returncode:
        pytest.skip(f"npm could not install {packages}: {done.stderr.decode()[-200:]}")
    return Node(node, folder)
