"""A message that no handler can read is kept with its reason, and can be replayed later."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.e2e.line import Line
from tests.support import wait_until

pytestmark = pytest.mark.one_server  # tests/stream/test_dead_letters.py has both servers


def dead_letters(line: Line) -> list[dict[str, Any]]:
    return [json.loads(row) for row in line.hookmill("dead", "list", "--json").splitlines()]


async def test_malformed_json_with_a_valid_signature_is_kept_and_replayed(
    line: Line, redis_client: redis.Redis, tmp_path: Path
) -> None:
    receiver, worker = line.receiver(), line.worker()
    assert await line.send([line.order(1, body=b'{"type": "order.paid", "order_id')]) == {200: 1}
    worker.wait_for('"dead letter"')

    (letter,) = dead_letters(line)
    assert (letter["message_id"], letter["reason"]) == ("msg_1", "undecodable")
    assert letter["error"] == "the body is not JSON: Input data was truncated"
    assert json.loads(line.hookmill("dead", "show", letter["id"], "--json"))["body"] == (
        '{"type": "order.paid", "order_id'
    )
    assert worker.stop() == 0

    # The next release has a handler for every message, which reads the raw bytes.
    catch_all = 'handlers.on("*")(note_post)\n'
    source = tmp_path / "ledger.py"
    source.write_text(
        source.read_text().replace("async def note(", f"{catch_all}\n\nasync def note(")
    )
    source.write_text(source.read_text().replace('@handlers.on("post.*")\n', ""))
    worker = line.worker()
    assert "replayed 1 of 1" in line.hookmill("dead", "replay", letter["id"])
    line.wait_for_handled(1)
    line.wait_for_drained(redis_client)
    assert dead_letters(line) == []
    assert [worker.stop(), receiver.stop()] == [0, 0]


async def test_a_body_with_a_field_of_the_wrong_type_is_kept_with_its_path_and_replayed(
    line: Line, redis_client: redis.Redis, tmp_path: Path
) -> None:
    receiver, worker = line.receiver(), line.worker()
    wrong = b'{"type":"order.paid","data":{"order_id":"A-1","amount":"4200"}}'
    assert await line.send([line.order(1, body=wrong)]) == {200: 1}
    worker.wait_for('"dead letter"')

    (letter,) = dead_letters(line)
    assert letter["error"] == "Expected `int`, got `str` - at `$.data.amount`"
    assert letter["handler"] == "note_order"
    assert worker.stop() == 0

    source = tmp_path / "ledger.py"
    source.write_text(source.read_text().replace("amount: int", "amount: int | str"))
    worker = line.worker()
    assert "replayed 1 of 1" in line.hookmill("dead", "replay", "--all")
    line.wait_for_handled(1)
    line.wait_for_drained(redis_client)
    assert [worker.stop(), receiver.stop()] == [0, 0]


async def test_an_event_without_a_handler_waits_for_the_grace_period_and_becomes_a_dead_letter(
    line: Line,
) -> None:
    receiver, worker = line.receiver(), line.worker(HOOKMILL_GRACE="1")
    assert await line.send([line.order(1, body=b'{"type":"order.refunded"}')]) == {200: 1}
    worker.wait_for('"will run again"')
    worker.wait_for('"dead letter"')

    (letter,) = dead_letters(line)
    assert letter["reason"] == "unhandled"
    assert "dropped 1 of 1" in line.hookmill("dead", "drop", letter["id"])
    wait_until(lambda: dead_letters(line) == [], what="no dead letters")
    assert [worker.stop(), receiver.stop()] == [0, 0]
