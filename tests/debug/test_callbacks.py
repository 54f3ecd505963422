"""QStash's callbacks in what is sent and judged by hand."""

from __future__ import annotations

from typing import Any

import pytest

from hookmill.catalog import qstash
from hookmill.catalog.qstash import Callback
from hookmill.config.identity import Identity, identify_callback
from hookmill.config.settings import Settings
from hookmill.debug.diagnose import verify
from hookmill.debug.fixtures import draft
from hookmill.debug.targets import Captured, case_for, known_sources
from hookmill.message import Message
from hookmill.signatures import Secret, Signed
from hookmill.signatures.qstash import QStash
from tests.support import CURRENT_KEY

NOW = 1_779_460_951.0


@pytest.mark.parametrize("cls", qstash.EVENTS)
def test_a_draft_is_a_callback_of_the_type_that_was_asked_for(cls: type[Callback]) -> None:
    made = draft("qstash-callbacks", None, None, "7", cls.tag)

    assert identify_callback(made.headers, made.body) == Identity("7", cls.tag)
    assert made.headers["Content-Type"] == "application/json"
    message = Message(id="7", source="qstash-callbacks", type="", body=made.body, received_ms=0)
    event = cls.from_message(message)
    # Nothing that a callback has is missing; only URL groups and schedules have more.
    unset = {name for name in event.__struct_fields__ if not getattr(event, name)} - {"retried"}
    assert unset == {"topic_name", "endpoint_name", "schedule_id"}
    assert event.source_message_id != "7"


def test_a_draft_without_a_type_is_a_failure_and_a_given_body_stays_as_it_is() -> None:
    made = draft("qstash-callbacks", None, None, "7", "")
    assert identify_callback(made.headers, made.body) == Identity("7", "delivery.failed")
    for body in (b"", b"{ }", b"\xff"):
        assert draft("qstash-callbacks", None, body, "7", "anything").body == body


def test_a_type_that_no_callback_has_is_said_with_those_there_are() -> None:
    with pytest.raises(ValueError, match=r"'order\.paid'; it has delivery\.succeeded, "):
        draft("qstash-callbacks", None, None, "7", "order.paid")


def test_a_captured_callback_is_judged_by_qstashs_scheme_and_named_as_the_receiver_would() -> None:
    assert "qstash-callbacks" in known_sources(Settings())
    url = "https://app.example/qstash-callbacks"
    made = draft("qstash-callbacks", None, None, "7", "delivery.failed")
    delivery = Signed(made.headers, made.body, "/qstash-callbacks")
    signed = QStash([CURRENT_KEY], public_url="https://app.example").sign(delivery, NOW)
    headers = [f"{name}: {value}" for name, value in signed.headers.items()]

    def report(url: str, body: bytes = made.body) -> Any:
        captured = Captured(headers, body, "POST", url)
        secret = Secret(CURRENT_KEY)
        return verify(*_with_now(case_for("qstash-callbacks", captured, [secret], Settings())))

    valid = report(url)
    assert valid.verdict == "valid"
    assert valid.remarks == ("message ID '7', not signed; event type 'delivery.failed'",)
    assert report("https://app.example/qstash").code == "wrong_url"
    assert report(url, made.body + b"\n").it_would_match_if


def _with_now(judged: tuple[Any, Any]) -> tuple[Any, float, Any]:
    case, identify = judged
    return case, NOW, identify
