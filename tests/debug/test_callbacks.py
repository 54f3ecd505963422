"""QStash's callbacks where people meet them: in what is sent, judged and checked by hand."""

from __future__ import annotations

from typing import Any

import pytest

from hookmill.admin.checkup import facts_of
from hookmill.admin.findings import Finding
from hookmill.admin.settings_checks import judge_settings
from hookmill.admin.source_checks import judge_sources
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
TABLE: dict[str, Any] = {"sources": {"qstash-callbacks": {}}}


def findings(fields: dict[str, Any]) -> list[Finding]:
    return list(judge_sources(facts_of(Settings(**fields)), NOW))


# --- send ---


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


# --- verify ---


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


# --- check ---


def test_check_says_what_callbacks_are_and_how_to_close_what_a_capture_allows() -> None:
    *_, note, described = findings({"qstash_current_signing_key": CURRENT_KEY} | TABLE)

    assert note.what == "IDs of qstash-callbacks come from a header that is not signed"
    assert note.do.startswith('set id = "body" in [sources.qstash-callbacks]: a callback names')
    assert described.what == (
        "source qstash-callbacks accepts QStash's callbacks at /qstash-callbacks"
    )
    assert "Time: the token's, 5 min. ID: Upstash-Message-Id (not signed)." in described.why
    assert "env:QSTASH_CURRENT_SIGNING_KEY" in described.do
    assert CURRENT_KEY not in repr((note, described))

    closed = {"sources": {"qstash-callbacks": {"id": "body"}}}
    found = findings({"qstash_current_signing_key": CURRENT_KEY} | closed)
    assert [one.what for one in found if "qstash-callbacks" in one.what] == [described.what]


def test_check_says_that_callbacks_without_a_key_would_not_start() -> None:
    assert [one.what for one in findings(TABLE) if one.level == "error"] == [
        "sources.qstash-callbacks: QSTASH_CURRENT_SIGNING_KEY is not set: it signs callbacks too"
    ]


@pytest.mark.parametrize(
    ("fields", "warned"),
    [
        (TABLE, True),
        ({"sources": {"outcomes": {"preset": "qstash-callbacks"}}}, True),
        (TABLE | {"public_url": "https://app.example"}, False),
        ({"sources": {"github": {}}}, False),
    ],
)
def test_check_warns_where_a_callback_for_another_url_would_be_accepted(
    fields: dict[str, Any], warned: bool
) -> None:
    found = [one.what for one in judge_settings(Settings(**fields))]
    assert found == (["HOOKMILL_PUBLIC_URL is not set"] if warned else [])
