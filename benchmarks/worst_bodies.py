"""What unsigned bodies cost a receiver: `python -m benchmarks.worst_bodies`.

Each scheme refuses the bodies of `tests/signatures/worst_bodies.py`, at the default body limit of
10 MiB: every preset, and schemes that a user's settings can describe. A line is the body that costs
this scheme the most, with its name. The time is the best of some tries, because other programs can
only add time; the memory is the peak above the body. GitHub's scheme only hashes the body.
"""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from multidict import CIMultiDict

from benchmarks.harness import SUBJECT, Bench, options, pinned_to, pins
from hookmill.signatures import Signed
from hookmill.signatures.qstash import QStash
from tests.signatures import paypal_deliveries, sns_messages
from tests.signatures.senders import NOW
from tests.signatures.worst_bodies import (
    ANY_FORMAT,
    LIMIT,
    SECRET,
    bodies_for,
    delivery_to,
    scheme_named,
    scheme_names,
)

ROUNDS = 3
TRIES = 3
QUICK = 200_000
"""Bytes of a body in a quick run."""

SNS_MOST = 4 * 1024 * 1024
"""Bytes of the largest message that SNS' scheme reads."""

Verify = Callable[[Signed, float], object]


class Worst(NamedTuple):
    """The largest value that any body had, and the name of that body."""

    value: float
    body: str


def subjects(size: int) -> Iterator[tuple[str, Verify, Iterator[tuple[str, Signed]]]]:
    """Return each scheme by its name, with the deliveries that it has to refuse."""
    for name in scheme_names():
        scheme = scheme_named(name)
        sent = ((what, delivery_to(name, body)) for what, body in bodies_for(scheme.spec, size))
        yield name, scheme.verify, sent
    coded: dict[str, tuple[Any, CIMultiDict[str]]] = {
        "qstash": (QStash([SECRET]), CIMultiDict({"Upstash-Signature": "a.b.c"})),
        "paypal": (paypal_deliveries.scheme(), paypal_deliveries.headers()),
        "sns": (sns_messages.scheme(), CIMultiDict()),
    }
    for name, (scheme, headers) in coded.items():
        yield name, scheme.verify, _for_code(name, headers, size)


def _for_code(name: str, headers: CIMultiDict[str], size: int) -> Iterator[tuple[str, Signed]]:
    for what, make in ANY_FORMAT.items():
        yield what, Signed(headers, make(size))
    if name == "sns":
        signed = sns_messages.sign(sns_messages.message(Message="HERE"))
        for shown, unit in (("x", b"x"), ("\\\\n", b"\\n"), ("the euro sign", "\u20ac".encode())):
            text = "\U0001f600".encode() + unit * ((min(size, SNS_MOST) - 2_000) // len(unit))
            yield f"a message of {shown}", Signed(headers, signed.replace(b"HERE", text))


def milliseconds(verify: Verify, signed: Signed, tries: int) -> float:
    """Return the CPU time of a verdict."""
    best = float("inf")
    for _ in range(tries):
        began = time.process_time()
        verify(signed, NOW)
        best = min(best, time.process_time() - began)
    return best * 1_000


def megabytes(verify: Verify, signed: Signed) -> float:
    """Return the peak of the memory of a verdict, above the body itself."""
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        verify(signed, NOW)
        return (tracemalloc.get_traced_memory()[1] - before) / 1e6
    finally:
        tracemalloc.stop()


def run(bench: Bench, chosen: set[str]) -> None:
    """Run the benchmark: all schemes in each round."""
    times = bench.table(
        "The body that costs the most time", "ms of CPU time", against="github", digits=1,
        target="at most 60 ms, or twice GitHub's",
    )  # fmt: skip
    memory = bench.table(
        "The body that costs the most memory", "MB above the body", digits=1, column="memory",
        target="at most 40 MB",
    )  # fmt: skip
    size, tries = (QUICK, 1) if bench.quick else (LIMIT, TRIES)
    for _ in bench.each_round():
        for name, verify, deliveries in subjects(size):
            if chosen and name not in chosen:
                continue
            slowest = largest = Worst(-1.0, "")
            for what, signed in deliveries:
                slowest = max(slowest, Worst(milliseconds(verify, signed, tries), what))
                largest = max(largest, Worst(megabytes(verify, signed), what))
            times.put(name, slowest.value, slowest.body)
            memory.put(name, largest.value, largest.body)


def main(arguments: list[str] | None = None) -> None:
    parser = options(__doc__, ROUNDS, "worst_bodies")
    parser.add_argument("schemes", nargs="*", help="else all")
    given = parser.parse_args(arguments)
    with (
        Bench("worst_bodies", given, pins(the_process=SUBJECT)) as bench,
        pinned_to(SUBJECT),
    ):
        run(bench, set(given.schemes))
        bench.finish()


if __name__ == "__main__":
    main()
