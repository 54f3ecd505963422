"""Says for how long the message IDs of a source are remembered, and compares that with how long its
deliveries stay valid. No I/O.

While its signed time is valid, a captured delivery is stopped only by its ID. If the ID was
forgotten before, the copy would run again.
"""

from __future__ import annotations

import math

from hookmill.config.settings import Settings
from hookmill.config.source_options import QSTASH
from hookmill.signatures.qstash import LIFETIME
from hookmill.signatures.spec import SignatureSpec

MOST_WINDOWS = 4
"""So many windows may sources have beside that of all. `windows.lua` has the same number."""

CERTIFIED_TOLERANCES = {"sns": 3900.0, "paypal": 259_200.0}
"""Seconds, as in the modules of these schemes, which need the extra `asymmetric`."""


def validity_of(preset: str, spec: SignatureSpec | None, settings: Settings) -> float | None:
    """Return for how many seconds a delivery is accepted after its signed time; None if no time is
    signed: then it is valid for ever, and no window would be long enough.
    """
    if spec is not None:
        return spec.tolerance if spec.timestamp else None
    if preset in QSTASH:
        return LIFETIME + settings.clock_tolerance
    return CERTIFIED_TOLERANCES.get(preset)


def window_of(source: str, settings: Settings) -> int:
    """Return for how many seconds at least the message IDs of a source are remembered."""
    return settings.options_of(source).dedup_window or settings.dedup_window


def own_windows(settings: Settings) -> list[int]:
    """Return the windows that sources have and that are not that of all, as `hookmill.toml` names
    them, each once.
    """
    given = [options.dedup_window for options in settings.sources.values()]
    return [*dict.fromkeys(one for one in given if one and one != settings.dedup_window)]


def window_fault(source: str, preset: str, spec: SignatureSpec | None, settings: Settings) -> str:
    """Return what is wrong with the duplicate window of a source, "" if nothing is."""
    window, most = window_of(source, settings), settings.dedup_window
    if window > most:
        # A worker that does not know the source's window goes by its own, so that must be longer.
        return (
            f"dedup_window is {window}, but HOOKMILL_DEDUP_WINDOW is {most}: that has to be the "
            f"longest of all. Set it to {window} or more, for receivers and workers alike, and "
            "give a dedup_window to the sources whose IDs may be forgotten earlier"
        )
    if window in (windows := own_windows(settings))[MOST_WINDOWS:]:
        return (
            f"dedup_window: the sources have {len(windows)} different windows, and each makes the "
            f"look-up of an ID slower: use {MOST_WINDOWS} at most, such as "
            f"{min(windows[:MOST_WINDOWS], key=lambda one: abs(one - window))} here"
        )
    validity = validity_of(preset, spec, settings)
    if validity is None or validity <= window:
        return ""
    if window < most:
        return (
            f"its deliveries are valid for {validity:g} seconds, but its dedup_window is {window}: "
            "a captured delivery would run again when its ID is forgotten. Set it to "
            f"{math.ceil(validity)} or more"
        )
    return (
        f"its deliveries are valid for {validity:g} seconds, but HOOKMILL_DEDUP_WINDOW is "
        f"{window}: a captured delivery would run again when its ID is forgotten. "
        f"Set the window to {math.ceil(validity)} or more, for receivers and workers alike"
    )
