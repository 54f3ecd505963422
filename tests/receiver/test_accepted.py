"""What was accepted is counted by source and type, a batch at a time, and types are bounded."""

from __future__ import annotations

from typing import Any

import pytest

from hookmill.config.settings import Settings
from hookmill.errors import StreamUnavailableError
from hookmill.stream.producer import Producer
from receiver import accepted
from receiver.accepted import AcceptedTypes
from receiver.app import Receiver
from receiver.metrics import Metrics
from tests.support import message


def batch(*kinds: tuple[str, str]) -> list[tuple[Any, object]]:
    return [(message(source=source, type=of_type), None) for source, of_type in kinds]


def test_only_what_was_stored_is_counted() -> None:
    counted = AcceptedTypes()
    counted.written(batch(("a", "x"), ("a", "x"), ("b", "y")), ["1-1", "spooled", "1-2"])
    refused: list[str | Exception] = ["1-3", "", StreamUnavailableError("away")]
    counted.written(batch(("a", "x"), ("a", "token used"), ("b", "not stored")), refused)
    assert counted.counts() == {("a", "x"): 3, ("b", "y"): 1}


def test_types_beyond_the_bound_are_counted_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accepted, "MOST_SEEN", 2)  # it sums up in between
    metrics = Metrics(most_types=3)
    for number in range(5):
        metrics.accepted.written(batch(("a", f"t{number}"), ("a", "bad\x1b[31m")), ["1-1", "1-2"])
    (family,) = [one for one in metrics.collect() if one.name == "hookmill_accepted_messages"]
    found = {tuple(sample.labels.values()): sample.value for sample in family.samples}
    assert found == {("a", "t0"): 1, ("a", "t1"): 1, ("a", "other"): 8}
    assert metrics.rates["came", "a", "(other)"] == 8


@pytest.mark.one_server
async def test_a_receiver_tells_the_metrics_what_it_has_appended(
    stream: Producer, prefix: str
) -> None:
    receiver = Receiver(Settings(prefix=prefix), [], stream)
    receiver._appender.put(message(source="marble", type="post.published"), lambda _: None)
    await receiver._appender.close()
    assert receiver._pipeline.metrics.accepted.counts() == {("marble", "post.published"): 1}
