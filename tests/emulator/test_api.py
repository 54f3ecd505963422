"""The API's methods: their statuses, and what they do beyond calling the broker."""

from __future__ import annotations

from typing import Any

from tests.emulator.running import NOWHERE, Emulator
from tests.support import eventually

LATER = {"Upstash-Delay": "1h"}
FAILS_AT_ONCE = {"Upstash-Retries": "0"}


async def publish(emulator: Emulator, **headers: str) -> str:
    status, answer = await emulator.ask("POST", f"/v2/publish/{NOWHERE}", headers=headers)
    assert status == 200
    message_id: str = answer["messageId"]
    return message_id


async def fail_some(emulator: Emulator, count: int) -> list[str]:
    """Let messages fail; return their IDs in the DLQ, the oldest first."""
    for _ in range(count):
        await publish(emulator, **FAILS_AT_ONCE)

    async def in_dlq() -> list[str]:
        _, found = await emulator.ask("GET", "/v2/dlq")
        return [one["dlqId"] for one in found["messages"]]

    found: list[str] = []

    async def are_all_there() -> bool:
        found[:] = await in_dlq()
        return len(found) == count

    await eventually(are_all_there)
    return found


async def test_only_a_publish_without_a_new_message_is_a_202(emulator: Emulator) -> None:
    headers = {**LATER, "Upstash-Deduplication-Id": "once"}
    first = await emulator.ask("POST", f"/v2/publish/{NOWHERE}", headers=headers)
    second = await emulator.ask("POST", f"/v2/publish/{NOWHERE}", headers=headers)
    assert (first[0], second[0]) == (200, 202)
    assert second[1]["messageId"] == first[1]["messageId"]
    assert second[1]["deduplicated"] is True


async def test_an_item_that_is_refused_leaves_the_others_of_its_batch(emulator: Emulator) -> None:
    items: list[dict[str, Any]] = [
        {"destination": NOWHERE, "headers": LATER},
        {"destination": "no-such-group"},
        {"destination": "no URL"},
        {"destination": NOWHERE, "headers": LATER},
    ]
    status, answers = await emulator.ask("POST", "/v2/batch", json=items)
    assert status == 200
    assert ["messageId" in one for one in answers] == [True, False, False, True]
    assert all(one["error"] for one in answers[1:3])


async def test_the_events_are_the_logs_under_their_older_name(emulator: Emulator) -> None:
    await publish(emulator, **LATER)
    _, logs = await emulator.ask("GET", "/v2/logs")
    _, events = await emulator.ask("GET", "/v2/events")
    assert logs["logs"]
    assert events["events"] == logs["logs"]


async def test_messages_are_cancelled_by_a_filter_and_none_without_one(emulator: Emulator) -> None:
    kept, gone = await publish(emulator, **LATER), await publish(emulator, **LATER)
    none = await emulator.ask("DELETE", "/v2/messages", json={"messageIds": []})
    one = await emulator.ask("DELETE", "/v2/messages", json={"messageIds": [gone]})
    assert none == (202, {"cancelled": 0})
    assert one == (202, {"cancelled": 1})
    assert (await emulator.ask("GET", f"/v2/messages/{kept}"))[0] == 200
    assert (await emulator.ask("DELETE", f"/v2/messages/{gone}"))[0] == 404


async def test_the_dlq_is_listed_by_pages(emulator: Emulator) -> None:
    await fail_some(emulator, 3)
    _, listed = await emulator.ask("GET", "/v2/dlq?count=2")
    assert len(listed["messages"]) == 2
    _, rest = await emulator.ask("GET", f"/v2/dlq?count=2&cursor={listed['cursor']}")
    assert len(rest["messages"]) == 1
    assert "cursor" not in rest


async def test_only_the_named_messages_of_the_dlq_are_deleted(emulator: Emulator) -> None:
    first, second, third = await fail_some(emulator, 3)
    assert await emulator.ask("DELETE", f"/v2/dlq/{first}") == (200, {"deleted": 1})
    some = {"dlqIds": [second, "no-such-id"]}
    assert await emulator.ask("DELETE", "/v2/dlq", json=some) == (200, {"deleted": 1})
    _, left = await emulator.ask("GET", "/v2/dlq")
    assert [one["dlqId"] for one in left["messages"]] == [third]


async def test_a_retry_of_the_dlq_publishes_each_message_again(emulator: Emulator) -> None:
    found = await fail_some(emulator, 2)
    status, answer = await emulator.ask("POST", "/v2/dlq/retry", json={"dlqIds": found})
    assert status == 201
    assert len({one["messageId"] for one in answer["responses"]}) == 2
    again, _ = await emulator.ask("POST", "/v2/dlq/retry", json={"dlqIds": found})
    assert again == 404


async def test_a_pin_is_taken_off_for_what_is_named_only(emulator: Emulator) -> None:
    path = "/v2/flowControl/key"
    assert (await emulator.ask("POST", f"{path}/pin?parallelism=2&rate=5&period=10"))[0] == 200
    assert (await emulator.ask("POST", f"{path}/unpin?rate=true"))[0] == 200
    _, shown = await emulator.ask("GET", path)
    assert shown["isPinnedParallelism"] is True
    assert shown["isPinnedRate"] is False
    status, answer = await emulator.ask("POST", f"{path}/unpin?rate=perhaps")
    assert (status, answer["error"]) == (400, "rate: 'perhaps' is neither true nor false")


async def test_a_name_in_the_path_that_cannot_be_saved_is_refused(emulator: Emulator) -> None:
    status, answer = await emulator.ask("POST", "/v2/flowControl/a%00b/pin?parallelism=1")
    assert status == 400
    assert "the name in the path" in answer["error"]


async def test_the_keys_change_only_when_they_are_rotated(emulator: Emulator) -> None:
    _, before = await emulator.ask("GET", "/v2/keys")
    _, same = await emulator.ask("GET", "/v2/keys")
    _, rotated = await emulator.ask("POST", "/v2/keys/rotate")
    assert same == before
    assert rotated["current"] == before["next"]
    assert rotated["next"] not in before.values()
