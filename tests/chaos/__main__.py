"""The command line of the chaos run.

Exit 1 if a message was lost, if one ran twice or out of order without a cause that the guarantees
name, if something was left unfinished, if a program ended that nobody had asked to, or if memory
grew in a soak.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import uvloop

from tests.chaos.cluster import ClusterChaos
from tests.chaos.ledger import Verdict
from tests.chaos.run import Chaos
from tests.chaos.schedule import KINDS
from tests.chaos.watch import Watch, growth
from tests.support import server_binaries

RATE = 250.0
"""Messages a second in a soak: about half of what the programs manage while faults happen."""

SHOWN = 10
"""How many of the messages that break the promises are shown."""


def main() -> int:
    given = _arguments()
    folder = Path(tempfile.mkdtemp(prefix="chaos-"))
    if given.cluster:
        return _run_on_cluster(given, folder)
    chaos = Chaos(
        folder,
        messages=int(given.minutes * 60 * given.rate) or given.messages,
        faults=given.faults,
        seed=given.seed,
        binary=server_binaries()[given.server],
        partitions=given.partitions,
        kinds=given.only or KINDS,
        rate=given.rate if given.minutes else None,
        spares_first=bool(given.minutes),
    )
    verdict = uvloop.run(chaos.run())
    _tell(chaos, verdict)
    grown = chaos.watch.grown() if given.minutes else []
    if given.minutes:
        _tell_memory(chaos.watch, grown)
    if verdict.is_good and not (chaos.stuck or chaos.watch.ended or grown):
        shutil.rmtree(folder)
        return 0
    print(f"the logs and the ledger are in {folder}", file=sys.stderr)
    return 1


def _run_on_cluster(given: argparse.Namespace, folder: Path) -> int:
    chaos = ClusterChaos(
        folder,
        messages=given.messages,
        seed=given.seed,
        binary=server_binaries()[given.server],
    )
    verdict = uvloop.run(chaos.run())
    for name, value in verdict._asdict().items():
        print(f"{name.replace('_', ' '):>20}  {value:.0f}")
    for text in chaos.happened:
        print(text)
    if verdict.is_good:
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
    parser.add_argument("--cluster", action="store_true", help="on a Redis Cluster, other faults")
    parser.add_argument("--minutes", type=float, default=0, help="a soak of this length instead")
    parser.add_argument("--rate", type=float, default=RATE, help="messages a second in a soak")
    return parser.parse_args()


def _tell_memory(watch: Watch, grown: list[str]) -> None:
    print("memory in MB: median of the second quarter, median of the last quarter, peak")
    for name, samples in sorted(watch.sampled.items()):
        before, after = growth(samples)
        peak = max(used for _, used in samples)
        told = "  has grown" if name in grown else ""
        print(f"{name:>20}  {before:6.1f} {after:6.1f} {peak:6.1f}{told}")


def _tell(chaos: Chaos, verdict: Verdict) -> None:
    for name, value in verdict._asdict().items():
        text = f"{value:.0f}" if isinstance(value, int | float) else f"{len(value)}"
        print(f"{name.replace('_', ' '):>20}  {text}")
    print(f"{'killed for memory':>20}  {chaos.watch.killed_for_memory}")
    print(f"{'ended for threads':>20}  {chaos.watch.ended_for_threads}")
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
    for name, message_id, run in [*verdict.while_paused][:SHOWN]:
        print(f"paused {name}, and it began: {message_id}, process {run.pid}, {_clock(run.began)}")
    for text in [*chaos.watch.ended, *filter(None, [chaos.stuck])]:
        print(text)
    if not verdict.is_good:
        _tell_what_happened(chaos)


def _tell_what_happened(chaos: Chaos) -> None:
    for one in chaos.faults.past:
        print(f"{_clock(one.began)} to {_clock(one.ended)}: {one.fault}, process {one.pid}")
    for pause in chaos.faults.steering.pauses:
        print(f"{_clock(pause.began)} to {_clock(pause.ended)}: paused {pause.name}")
    for replay in chaos.faults.steering.replays:
        print(f"{_clock(replay.began)}: replayed {replay.replayed}")


def _clock(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).strftime("%H:%M:%S.%f")[:-3]


if __name__ == "__main__":
    sys.exit(main())
