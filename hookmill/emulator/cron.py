"""The times of a cron expression, in UTC or the time zone that `CRON_TZ=` names."""

from __future__ import annotations

from datetime import UTC, datetime, tzinfo
from zoneinfo import ZoneInfo

from hookmill.emulator.models import ApiError


def next_ms(text: str, after_ms: int) -> int:
    """Return the first time (Unix ms) after `after_ms`; raise `ApiError` if there is none."""
    try:
        from cronsim import CronSim, CronSimError  # noqa: PLC0415 - an optional extra
    except ImportError:
        raise ApiError(
            501, "schedules need cronsim, which is not installed: pip install hookmill[embedded]"
        ) from None
    zone, fields = _zone_of(text)
    try:
        found = next(CronSim(fields, datetime.fromtimestamp(after_ms / 1000, zone)))
    except (CronSimError, StopIteration):
        raise ApiError(400, f"invalid cron expression {text!r}") from None
    return int(found.timestamp() * 1000)


def _zone_of(text: str) -> tuple[tzinfo, str]:
    first, _, rest = text.strip().partition(" ")
    if not first.startswith(("CRON_TZ=", "TZ=")):
        return UTC, text.strip()
    name = first.partition("=")[2]
    try:
        return ZoneInfo(name), rest.strip()
    except (ValueError, OSError, KeyError):
        raise ApiError(400, f"invalid cron expression {text!r}: no time zone {name!r}") from None
