"""`hookmill plan`: how many receivers, workers and shards a load needs. It asks no server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from hookmill.cli.options import AsJSON
from hookmill.cli.output import say, say_json
from hookmill.printable import printable

if TYPE_CHECKING:
    from collections.abc import Callable

    from hookmill.admin.capacity import CapacityPlan


def plan(  # noqa: PLR0913 - an option each
    *,
    rate: Annotated[
        float,
        typer.Option(
            min=0.001, max=10_000_000, metavar="MESSAGES_PER_SECOND", help="How many come."
        ),
    ],
    body_size: Annotated[
        str, typer.Option("--body", metavar="SIZE", help="Size of a body: 214, 2k, 1.5MB.")
    ] = "2k",
    handler: Annotated[
        str, typer.Option(metavar="TIME", help="How long a handler takes: 20ms, 1.5s.")
    ] = "0s",
    compute: Annotated[
        str, typer.Option(metavar="TIME", help="How much of that time it computes: 1ms.")
    ] = "0s",
    peak: Annotated[
        float,
        typer.Option(
            min=0,
            max=10_000_000,
            metavar="MESSAGES_PER_SECOND",
            help="The most that comes at once.",
        ),
    ] = 0,
    peak_for: Annotated[str, typer.Option(metavar="TIME", help="How long a peak lasts.")] = "1m",
    outage: Annotated[
        str, typer.Option(metavar="TIME", help="How long workers, or Redis, may be away.")
    ] = "10m",
    window: Annotated[
        str, typer.Option(metavar="TIME", help="For how long IDs are remembered.")
    ] = "72h",
    replicas: Annotated[int, typer.Option(min=0, max=10, help="Replicas of each shard.")] = 1,
    memory: Annotated[
        str, typer.Option(metavar="SIZE", help="Memory that the Redis of a shard may use.")
    ] = "64GB",
    call: Annotated[
        str, typer.Option(metavar="TIME", help="How long a call to Redis may take: 2ms or more.")
    ] = "10ms",
    utilisation: Annotated[
        str, typer.Option(metavar="SHARE", help="How much of each core is used at that rate.")
    ] = "60%",
    as_json: AsJSON = False,
) -> None:
    """Say how many receivers, workers and shards a load needs, and how much memory and network.

    It reckons with what the benchmarks have measured, on one kind of machine: measure your own.
    """
    # Long because: it has many options, and each takes a few lines.
    from hookmill.admin import capacity
    from hookmill.admin.measured import MEASURED

    load = capacity.Load(
        rate=rate,
        body=round(_size("--body", body_size, 0, 1e9)),
        handler=_time("--handler", handler),
        compute=_time("--compute", compute),
        peak=peak,
        peak_for=_time("--peak-for", peak_for),
        outage=_time("--outage", outage),
        window=_time("--window", window, 1),
        replicas=replicas,
        server_memory=_size("--memory", memory, 1e8, 1e14),
        call=_time("--call", call, 0.002),
        utilisation=_share("--utilisation", utilisation),
    )
    found = capacity.plan(load, MEASURED)
    if as_json:
        say_json({"plan": found, "figures": MEASURED._asdict()})
    else:
        _show(found)


def _show(found: CapacityPlan) -> None:
    from hookmill.admin import capacity_words
    from hookmill.admin.measured import MEASURED

    say(capacity_words.title(found.load))
    say("")
    for row in capacity_words.rows(found, MEASURED):
        say(f"{row.what:<11}{row.needed}")
        say(f"{'':<11}  by {row.by}")
    say("")
    say(f"what limits first: {capacity_words.limits(found)}")
    if settings := capacity_words.settings(found):
        say(f"settings: {' '.join(settings)}")
    for note in capacity_words.notes(found):
        say(f"note: {note}")
    say(f"measured on {MEASURED.machine}, {MEASURED.date}")


def _time(option: str, text: str, least: float = 0) -> float:
    from hookmill.admin.units import duration_of

    return _read(option, text, duration_of, (least, 366 * 86_400), "a time such as 20ms, 1.5s, 72h")


def _size(option: str, text: str, least: float, most: float) -> float:
    from hookmill.admin.units import bytes_of

    return _read(option, text, bytes_of, (least, most), "a size such as 214, 2k, 64GB")


def _share(option: str, text: str) -> float:
    from hookmill.admin.units import share_of

    return _read(option, text, share_of, (0.01, 0.95), "a share from 1% to 95%")


def _read(
    option: str,
    text: str,
    read: Callable[[str], Any],
    bounds: tuple[float, float],
    wanted: str,
) -> float:
    value = read(text)
    if value is None or not bounds[0] <= value <= bounds[1]:
        raise typer.BadParameter(f"{option} {printable(text)}: give {wanted}")
    return float(value)
