"""What the metrics say of a spool is what is in its file, also while others write."""

from __future__ import annotations

from pathlib import Path

import pytest

from hookmill.stream.arrival import row_of
from receiver import spool_metrics
from receiver.spool import Spool
from receiver.spool_metrics import SpoolMetrics, look_into
from tests.support import message

LIMIT = 1_000_000


def values(metrics: SpoolMetrics) -> dict[str, float]:
    return {
        sample.name.removeprefix("hookmill_spool_"): sample.value
        for family in metrics.collect()
        for sample in family.samples
    }


async def test_messages_bytes_and_the_oldest_are_told(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool", LIMIT)
    await spool.open()
    metrics = SpoolMetrics(spool.path, LIMIT)
    try:
        await metrics.refresh()
        empty = values(metrics)
        assert (empty["messages"], empty["limit_bytes"]) == (0, LIMIT)
        assert "oldest_timestamp_seconds" not in empty
        rows = [row_of(message(b"x" * 20_000, received_ms=ms)) for ms in (5000, 9000)]
        await spool.put(rows)
        await metrics.refresh()
        assert values(metrics) == empty, "the file is not read again at once"
        found = look_into(spool.path)
        assert found is not None
        assert (found.messages, found.oldest) == (2, 5.0)
        assert 40_000 < found.bytes < LIMIT
    finally:
        await spool.close()


async def test_a_file_that_cannot_be_read_is_not_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool_metrics, "BUSY_TIMEOUT", 0.01)
    path = tmp_path / "spool"
    metrics = SpoolMetrics(path, LIMIT)
    await metrics.refresh()
    assert values(metrics) == {"limit_bytes": LIMIT}
    assert not path.exists(), "a look makes no file"
    path.write_bytes(b"no database" * 100)
    assert look_into(path) is None
