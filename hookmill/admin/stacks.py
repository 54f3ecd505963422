"""`hookmill stacks` without its printing: asks a worker where its threads and tasks are.

The worker's lease thread answers, also while its event loop is blocked, with its next renewal.
"""

from __future__ import annotations

import asyncio
import time

from hookmill.admin.audit import Operator, acting
from hookmill.admin.opening import open_stream
from hookmill.config.settings import DEFAULT_GROUP, Settings
from hookmill.errors import HookmillError
from hookmill.stream.client import Client
from hookmill.stream.facts import GroupFacts
from hookmill.stream.groups import Groups
from hookmill.stream.inspector import Inspector
from hookmill.stream.stacks import SaidStacks, StackRequests

CAN_STACKS = "stacks"
"""What the heartbeat of a worker says that answers such a request."""

_LOOK = 0.5
"""Seconds between two looks for the answer."""

_MARGIN = 5.0
"""Seconds that the answer may take beyond the time between two renewals."""


class StacksRefusedError(HookmillError):
    """A worker cannot be asked where it is, or has not answered. The text says why."""

    code = "stacks_refused"


def can_answer(group: GroupFacts, worker: str) -> bool:
    """Return whether a worker may answer. Of one whose heartbeat is gone (its event loop is
    blocked) nobody knows for sure; those of 0.1, which have no lease number, cannot.
    """
    for beat in group.heartbeats:
        if beat.name == worker:
            return CAN_STACKS in beat.can
    return any(
        one.name == worker and one.lease_number is not None for one in group.without_heartbeat
    )


def answers_within(group: GroupFacts, worker: str, lease: float) -> float:
    """Return within how many seconds a worker answers if it can. `lease` is for a worker that does
    not state its own.
    """
    stated = next((one.lease for one in group.heartbeats if one.name == worker), 0.0)
    return (stated or lease) / 3 + _MARGIN


async def ask(
    settings: Settings, worker: str, operator: Operator | None = None, *, client: Client
) -> float:
    """Ask a worker of the settings' group; return what `answers_within` does. Raises
    `StacksRefusedError` if there is no such worker, or if it is of a release that cannot answer.
    """
    if settings.group != DEFAULT_GROUP:
        await Groups(client).find(settings.group)
    group = await Inspector(client).group(settings.group)
    beats = [one.name for one in group.heartbeats]
    if worker not in {*beats, *(one.name for one in group.consumers)}:
        there = ", ".join(beats) or "none"
        raise StacksRefusedError(
            f"group {settings.group} has no worker {worker!r}; those with a heartbeat are: {there}"
        )
    if not can_answer(group, worker):
        raise StacksRefusedError(
            f"worker {worker} is of a release that does not answer this: send its process SIGUSR1, "
            "and see its log"
        )
    about = {"group": settings.group, "worker": worker}
    async with acting(settings, "stacks", about, operator, client=client):
        await StackRequests(client, settings.group).ask(worker)
    return answers_within(group, worker, settings.lease)


async def ask_and_wait(
    settings: Settings, worker: str, operator: Operator | None = None
) -> SaidStacks:
    """Ask a worker, and return what it says. Raises `StacksRefusedError`, also where it does not
    answer in time.
    """
    async with await open_stream(settings) as client:
        within = await ask(settings, worker, operator, client=client)
        requests, until = StackRequests(client, settings.group), time.monotonic() + within
        while time.monotonic() < until:
            _, said = await requests.read(worker)
            if said is not None:
                return said
            await asyncio.sleep(_LOOK)
    raise StacksRefusedError(
        f"worker {worker} has not answered within {within:.0f} s: it has ended, something "
        "holds all of its threads, or it does not reach Redis"
    )
