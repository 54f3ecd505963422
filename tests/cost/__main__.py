"""Counts what a message costs in each step: `make cost`, or `python -m tests.cost`.

The counts do not depend on how fast or how busy this machine is. `--write` makes them the bounds.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from contextlib import redirect_stdout
from pathlib import Path

import msgspec

from hookmill.runtime import logs
from tests.cost import cases
from tests.cost.bounds import UNITS, write_bounds
from tests.support import Server, server_binaries


def main() -> None:
    """Count, and print the table, or the counts as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    binaries = server_binaries()
    parser.add_argument("--server", choices=binaries, default="valkey")
    parser.add_argument("--case", action="append", choices=cases.CASES, help="only this case")
    parser.add_argument("--write", action="store_true", help="make the counts the bounds")
    parser.add_argument("--json", action="store_true", help="print the counts of each module")
    parser.add_argument("--twice", metavar="MODULE:FUNCTION", help="let it do its work twice")
    given = parser.parse_args()
    if given.twice:
        cases.call_twice(given.twice)
    names = given.case or list(cases.CASES if given.json else cases.WATCHED)
    counted = count(binaries[given.server], names)
    if given.json:
        sys.stdout.buffer.write(msgspec.json.encode(counted))
    else:
        for name, case in counted.items():
            print_case(name, case)
    if given.write:
        write_bounds(counted)


def count(binary: str, names: list[str]) -> dict[str, cases.Case]:
    """Count with a server of our own, and with a log that goes nowhere."""
    with tempfile.TemporaryDirectory() as folder, Path(os.devnull).open("w") as nowhere:
        with redirect_stdout(nowhere):
            logs.configure_logs("json")
        server = Server(binary, Path(folder))
        server.start()
        try:
            return cases.count_all(cases.Server(server.url, Path(folder)), names)
        finally:
            server.kill()


def print_case(name: str, case: cases.Case) -> None:
    units = ("commands",) if case.commands else UNITS
    print(f"{name + ', a message':40}" + "".join(f"{unit:>14}" for unit in units))
    steps = case.each()
    for step, numbers in steps.items():
        print(f"  {step:38}" + "".join(f"{number:14.1f}" for number in numbers))
    sums = [sum(numbers) for numbers in zip(*steps.values(), strict=True)]
    print(f"  {'all':38}" + "".join(f"{number:14.1f}" for number in sums) + "\n")


if __name__ == "__main__":
    main()
