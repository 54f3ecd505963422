"""Where other senders and QStash's callbacks put the ID and the event type."""

from __future__ import annotations

import pytest
from multidict import CIMultiDict

from hookmill.config.identity import Identity, identify_by, identify_callback
from hookmill.signatures import Refused
from hookmill.signatures.presets import PRESETS
from tests.config.deliveries import NO_HEADERS, QSTASH_ID, named_after

# --- other senders ---


@pytest.mark.parametrize(
    ("preset", "headers", "body", "expected"),
    [
        (
            "github",
            {"X-GitHub-Delivery": "d-1", "X-GitHub-Event": "issues"},
            b'{"action":"opened"}',
            Identity("d-1", "issues.opened"),
        ),
        (
            "github",
            {"X-GitHub-Delivery": "d-1", "X-GitHub-Event": "push"},
            b"{}",
            Identity("d-1", "push"),
        ),
        ("github", {}, b"[]", Identity(None, "")),
        (
            "stripe",
            {},
            b'{"id":"evt_1","type":"charge.paid"}',
            Identity("evt_1", "charge.paid", id_is_signed=True),
        ),
        ("stripe", {}, b"not JSON", Identity(None, "")),
        (
            "standard-webhooks",
            {"webhook-id": "msg_1"},
            b'{"type":"a.b"}',
            Identity("msg_1", "a.b", id_is_signed=True),
        ),
        (
            "hubspot",
            {},
            b'[{"eventId":7,"subscriptionType":"contact.creation"}]',
            named_after(
                b'[{"eventId":7,"subscriptionType":"contact.creation"}]', "contact.creation"
            ),
        ),
        (
            "calendly",
            {},
            b'{"event":"e","created_at":"t","payload":{"uri":"u"}}',
            Identity("u@t", "e", id_is_signed=True),
        ),
        ("calendly", {}, b'{"event":"e","created_at":"t"}', Identity(None, "e")),
        ("slack", {}, b"command=%2Fdo&trigger_id=5.7", Identity("5.7", "/do", id_is_signed=True)),
        ("zoom", {}, b'{"event":"meeting.ended"}', Identity(None, "meeting.ended")),
        ("linear", {"Linear-Delivery": "l"}, b'{"type":"Issue"}', Identity("l", "Issue")),
    ],
)
def test_names_stand_where_the_senders_put_them(
    preset: str, headers: dict[str, str], body: bytes, expected: Identity
) -> None:
    identify = identify_by(PRESETS[preset].spec)
    assert identify(CIMultiDict(headers), body) == expected


def test_a_name_that_is_doubled_or_not_a_text_is_refused_and_a_long_one_is_none() -> None:
    identify = identify_by(PRESETS["github"].spec)

    def found(*headers: tuple[str, str]) -> str:
        result = identify(CIMultiDict(headers), b"{}")
        return result.code if isinstance(result, Refused) else f"{result.id} {result.type}"

    assert found(("X-GitHub-Delivery", "a"), ("x-github-delivery", "b")) == "header_repeated"
    assert found(("X-GitHub-Event", "a"), ("x-github-event", "b")) == "header_repeated"
    assert found(("X-GitHub-Delivery", "a\tb")) == "header_malformed"
    assert found(("X-GitHub-Delivery", "x" * 256), ("X-GitHub-Event", "push")) == "None push"


# --- QStash's callbacks ---

CALLBACK = b'{"status":500,"retried":1,"sourceMessageId":"msg_0","sourceBody":"e30="}'


@pytest.mark.parametrize(
    ("body", "event_type"),
    [
        (CALLBACK, "delivery.attempt_failed"),
        (CALLBACK.replace(b"500", b"201"), "delivery.succeeded"),
        (CALLBACK.replace(b'"status"', b'"dlqId":"1-0","status"'), "delivery.failed"),
        # What a body calls itself counts for nothing: QStash names no callback.
        (b'{"type":"delivery.failed","event":"delivery.failed"}', ""),
        (b"\xff", ""),
        (b"", ""),
    ],
    ids=lambda value: ascii(value)[:30],
)
def test_a_callbacks_type_follows_from_what_it_says(body: bytes, event_type: str) -> None:
    assert identify_callback(QSTASH_ID, body) == Identity("msg_1", event_type)
    assert identify_callback(NO_HEADERS, body) == Identity(None, event_type)
    refused = identify_callback(CIMultiDict({"Upstash-Message-Id": "msg_\n"}), body)
    assert isinstance(refused, Refused)
