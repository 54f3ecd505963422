"""What happens in a chaos run, and when. One seed gives one schedule."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import NamedTuple

LEASE = 2.0

ONCE_IN_FULL = (
    *("kill worker", "pause", "freeze worker", "replay", "kill redis"),
    *("switch, sessions kept", "half-open"),
    *("kill receiver", "full disk", "idle cuts", "freeze redis", "slow line", "big bodies"),
    *("clock step", "out of memory", "switch, sessions moved", "freeze receiver"),
    *("cut connections", "stop worker", "kill rewriting redis", "stuck thread"),
)
"""All kinds of faults. A short run has the first ones."""

_OFTEN = ("kill worker", "freeze worker", "clock step", "half-open", "kill receiver", "kill worker",
          "pause", "replay", "pause")  # fmt: skip
KINDS = (*ONCE_IN_FULL, *_OFTEN)
"""The kinds in the order in which a schedule takes them. A kind that stands there twice comes
twice as often.
"""


class Fault(NamedTuple):
    """A planned fault: its kind, its target, how long it lasts, and after how many accepted
    deliveries it happens.
    """

    after: int
    kind: str
    target: int
    seconds: float


def schedule(seed: int, faults: int, messages: int, kinds: Sequence[str] = KINDS) -> list[Fault]:
    """Draw the faults. They are spread over the run. The seed decides their order and targets."""
    draw = random.Random(seed)
    chosen = [kinds[n % len(kinds)] for n in range(faults)]
    draw.shuffle(chosen)
    step = messages / (faults + 1)
    return [
        Fault(
            after=int(step * (number + draw.uniform(0.6, 1.0))),
            kind=kind,
            target=draw.randrange(6),
            seconds=round(draw.uniform(0.3, 2.0 * LEASE), 1),
        )
        for number, kind in enumerate(chosen)
    ]
