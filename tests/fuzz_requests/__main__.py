"""The command of the fuzz run: reads its options, runs it, and prints the verdict."""

from __future__ import annotations

import argparse
import asyncio
import shutil
import sys
import tempfile
from pathlib import Path

from tests.fuzz_requests.run import Fuzz
from tests.support import server_binaries


def main() -> int:
    """Run it from the command line. Exit 1 if the receiver did anything wrong."""
    parser = argparse.ArgumentParser(description="The fuzz run.")
    parser.add_argument("--requests", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=20261121)
    parser.add_argument("--server", choices=list(server_binaries()), default="valkey")
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
    fuzz = Fuzz(
        folder,
        requests=given.requests,
        seed=given.seed,
        binary=server_binaries()[given.server],
    )
    verdict = asyncio.run(fuzz.run())
    for name, value in verdict._asdict().items():
        if name != "failures":
            print(f"{name:>12}  {value:.0f}" if name == "seconds" else f"{name:>12}  {value}")
    print(f"{'kinds':>12}  {dict(fuzz.kinds.most_common())}")
    for failure in verdict.failures:
        print(f"{'failure':>12}  {failure}")
    if verdict.failures:
        print(f"{'log':>12}  {folder}")
        return 1
    shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
