"""Programs for Node in the tests: their packages come from npm, once a session."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

import pytest


class Node(NamedTuple):
    """A folder with packages, and the Node to run programs in it."""

    binary: str
    folder: Path

    def ask(self, program: str, given: Any, timeout: float = 90.0) -> Any:
        """Run an ES module of the folder, which reads JSON from its input and writes JSON to its
        output.
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
        """Do so without holding up the loop, which may have to answer it."""
        # Not asyncio's own processes: the thread that waits for one may outlive it and the test.
        return await asyncio.to_thread(self.ask, program, given)


def node_with(folder: Path, program: Path, *packages: str) -> Node:
    """Put a program beside its packages, where Node looks for them; skip the test where there is
    no Node or no registry.
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
