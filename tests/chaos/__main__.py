"""The command line of the chaos run.

Exit 1 if a message was lost, if one ran twice or out of order without a cause that the guarantees
name, if something was left unfinished, or if a program ended that nobody had asked to.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import uvloop

from tests.chaos.ledger import Verdict
from tests.chaos.run import Chaos
from tests.chaos.schedule import KINDS
from tests.support import server_binaries

SHOWN = 10
"""How many of the messages that break the promises are shown."""


def main() -> int:
    given = _arguments()
    folder = Path(tempfile.mkdtemp(prefix="chaos-"))
    chaos = Chaos(
        folder,
        messages=given.messages,
        faults=given.faults,
        seed=given.seed,
        binary=server_binaries()[given.server],
        partitions=given.partitions,
        kinds=given.only or KINDS,
    )
    verdict = uvloop.run(chaos.run())
    _tell(chaos, verdict)
    if verdict.is_good and not chaos.stuck and not chaos.watch.ended:
        shutil.rmtree(folder)
        return 0
    print(f"the logs and the ledger are in {folder}", file=sys.stderr)
    return 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description="The chaos run.")
    parser.add_argument("--messages", type=int, default=100_000)
    parser.add_argument("--faults", type=int, default=200)
    parser.add_argument("--seed", type=int, default=20261121)
    parser.add_argument("--partitions", type=int, default=4)
    parser.add_argument("--server", choices=list(server_binaries()), default="valkey")
    parser.add_argument(
        "--only", action="append", choices=sorted(set(KINDS)), help="this kind; may be repeated"
    )
    return parser.parse_args()


def _tell(chaos: Chaos, verdict: Verdict) -> None:
    for name, value in verdict._asdict().items():
        print(f"{name:>20}  {value if isinstance(value, int) else len(value)}")
    print(f"{'killed for memory':>20}  {chaos.watch.killed_for_memory}")
    print(f"{'seconds':>20}  {chaos.seconds:.0f}")
    for reason, count in chaos.faults.left_out.items():
        print(f"left out {count} times: {reason}")
    for message_id, why in [*verdict.dead.items()][:SHOWN]:
        print(f"dead letter {message_id}: {why}")
    for message_id in sorted(verdict.lost)[:SHOWN]:
        print(f"lost: {message_id}")
    for message_id, runs in [*verdict.unexplained.items()][:SHOWN]:
        print(f"ran again: {message_id}")
        for run in runs:
            death = chaos.site.deaths.get(run.pid)
            ended = _clock(run.ended) if run.ended else "never"
            dead = f", worker ended {_clock(death.moment)} ({death.why})" if death else ""
            print(f"    process {run.pid}: {_clock(run.began)} to {ended}{dead}")
    for text in [*chaos.watch.ended, *filter(None, [chaos.stuck])]:
        print(text)
    if not verdict.is_good:
        for one in chaos.faults.past:
            print(f"{_clock(one.began)} to {_clock(one.ended)}: {one.fault}, process {one.pid}")


def _clock(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).strftime("%H:%M:%S.%f")[:-3]


if __name__ == "__main__":
    sys.exit(main())
