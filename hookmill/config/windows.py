"""Compares how long a delivery stays valid with how long its message ID is remembered. No I/O.

While its signed time is valid, a captured delivery is stopped only by its ID. If the ID was
forgotten before, the copy would run again.
"""

from __future__ import annotations

import math

from hookmill.config.settings import Settings
from hookmill.config.source_options import QSTASH
from hookmill.signatures.qstash import LIFETIME
from hookmill.signatures.spec import SignatureSpec

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


def window_fault(preset: str, spec: SignatureSpec | None, settings: Settings) -> str:
    """Return what is wrong with the duplicate window for a source, "" if nothing is."""
    validity = validity_of(preset, spec, settings)
    if validity is None or validity <= settings.dedup_window:
        return ""
    return (
        f"its deliveries are valid for {validity:g} seconds, but HOOKMILL_DEDUP_WINDOW is "
        f"{settings.dedup_window}: a captured delivery would run again when its ID is forgotten. "
        f"Set the window to {math.ceil(validity)} or more, for receivers and workers alike"
    )
