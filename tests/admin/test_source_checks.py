"""What `hookmill check` says of sources: what each accepts, and what a captured delivery allows."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import SecretStr

from hookmill.admin.checkup import facts_of
from hookmill.admin.findings import Finding, exit_status
from hookmill.admin.source_checks import SourceFacts, judge_sources
from hookmill.config.settings import Settings
from hookmill.signatures import Secret
from hookmill.signatures.marble import DEVELOPMENT_SECRET
from hookmill.signatures.presets import PRESETS
from tests.support import CURRENT_KEY, MARBLE_SECRET

NOW = 1_779_460_951.0
LONG = "0123456789abcdef"


def judge(settings: Settings) -> list[Finding]:
    return list(judge_sources(facts_of(settings), NOW, development=settings.development))


def objections(found: list[Finding]) -> list[tuple[str, str]]:
    """All but what each source accepts."""
    return [(one.level, one.what) for one in found if not one.what.startswith("source ")]


def facts(name: str, *secrets: Secret, **changes: Any) -> SourceFacts:
    spec = PRESETS[name].spec
    given = secrets or (Secret(LONG, "env:X"),)
    return SourceFacts(name, name, f"/{name}", spec, None, given, ())._replace(**changes)


QSTASH_IDS = ("note", "IDs of qstash come from a header that is not signed")
MARBLE_IDS = (
    "note",
    "IDs of marble come from a header that is not signed, if the body has no ID",
)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, [("note", "no source is configured")]),
        ({"qstash_current_signing_key": CURRENT_KEY}, [QSTASH_IDS]),
        ({"marble_webhook_secret": CURRENT_KEY}, [MARBLE_IDS]),
        (
            {"marble_webhook_secret": CURRENT_KEY, "development": True},
            [("warning", "HOOKMILL_DEVELOPMENT is set"), MARBLE_IDS],
        ),
        (
            {"marble_webhook_secret": DEVELOPMENT_SECRET, "development": True},
            [("error", "the signing keys are public development keys"), MARBLE_IDS],
        ),
        (
            {"marble_webhook_secret": "x" * 15},
            [("warning", "1 secret of marble is shorter than 16 characters"), MARBLE_IDS],
        ),
        ({"marble_webhook_secret": "x" * 16}, [MARBLE_IDS]),
    ],
)
def test_what_was_set_is_judged(fields: dict[str, Any], expected: list[tuple[str, str]]) -> None:
    assert objections(judge(Settings(**fields))) == expected


BOTH: dict[str, Any] = {
    "qstash_current_signing_key": CURRENT_KEY,
    "marble_webhook_secret": MARBLE_SECRET,
    "public_url": "https://app.example",
}


@pytest.mark.parametrize(
    ("sources", "expected"),
    [
        ({}, [QSTASH_IDS, MARBLE_IDS]),
        ({"qstash": {"id": "body"}}, [MARBLE_IDS]),
        ({"marble": {"id": "body"}}, [QSTASH_IDS]),
        ({"qstash": {"id": "body"}, "marble": {"id": "body"}}, []),
        ({"marble": {"ordered_by": "data.id", "timestamped": True}}, [QSTASH_IDS, MARBLE_IDS]),
    ],
)
def test_ids_that_are_not_signed_are_noted_for_each_source_that_goes_by_them(
    sources: dict[str, Any], expected: list[tuple[str, str]]
) -> None:
    assert objections(judge(Settings(**BOTH, sources=sources))) == expected


@pytest.mark.parametrize(
    ("sources", "until"),
    [
        ({}, "for as long as the secret stays the same"),
        ({"marble": {"timestamped": True}}, "until its signed time is 5 min old"),
    ],
)
def test_what_an_unsigned_id_allows_is_said_of_qstash_and_marble_as_it_is(
    sources: dict[str, Any], until: str
) -> None:
    found = judge(Settings(**BOTH, sources=sources))
    qstash, marble = (one for one in found if not one.what.startswith("source "))

    assert "a delivery that was stored cannot be sent again under another ID" in qstash.why
    assert "until its token expires" in qstash.why
    assert f"send it again under another ID, {until}, and each runs" in marble.why
    for name, one in (("qstash", qstash), ("marble", marble)):
        assert one.do.startswith(f'set id = "body" in [sources.{name}], if genuine deliveries')
        assert exit_status([one]) == 0


FOREVER = "for as long as the secret stays the same"


@pytest.mark.parametrize(
    ("name", "what", "why"),
    [
        ("github", "IDs of github come from what is not signed", FOREVER),
        ("bitbucket", "IDs of bitbucket come from what is not signed", FOREVER),
        ("shopify", "IDs of shopify come from what is not signed", FOREVER),
        ("twilio", "IDs of twilio come from what is not signed", FOREVER),
        ("meta", "deliveries of meta have no ID", FOREVER),
        ("dropbox", "deliveries of dropbox have no ID", FOREVER),
        ("linear", "IDs of linear come from what is not signed", "until its signed time is 1 min"),
        ("sanity", "IDs of sanity come from what is not signed", "cannot be sent again under"),
        ("contentful", "IDs of contentful come from what is not signed", "is 30 s old"),
    ],
)
def test_what_a_captured_delivery_allows_follows_from_what_is_signed(
    name: str, what: str, why: str
) -> None:
    first, described = judge_sources([facts(name)], NOW)
    assert (first.level, first.what) == ("note", what)
    assert why in first.why
    assert first.do.startswith(f'set id = "body" in [sources.{name}]')
    assert described.what.startswith(f"source {name} accepts ")
    # What it advises closes it.
    assert objections(list(judge_sources([facts(name, id=("body",))], NOW))) == []


@pytest.mark.parametrize(
    "name",
    ["stripe", "svix", "slack", "zoom", "ghost", "woocommerce", "intercom", "twitch", "discord"],
)
def test_where_the_id_is_signed_or_follows_from_what_is_nothing_is_said(name: str) -> None:
    assert objections(list(judge_sources([facts(name)], NOW))) == []


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("strapi", "deliveries of strapi are not signed: they hold the secret itself"),
        ("gitlab-token", "deliveries of gitlab-token are not signed: they hold the secret itself"),
        ("mailgun", "the body of mailgun is not signed"),
    ],
)
def test_where_nothing_about_the_body_is_proven_there_is_a_warning(name: str, what: str) -> None:
    assert objections(list(judge_sources([facts(name)], NOW))) == [("warning", what)]


def test_a_source_is_described_by_what_it_accepts() -> None:
    (_, described) = judge_sources([facts("github", Secret(LONG, "env:GITHUB"))], NOW)
    assert described.what == "source github accepts GitHub at /github"
    assert described.why == (
        "signed: the body; HMAC-SHA256 in hex, in X-Hub-Signature-256. "
        "Time: none is signed: a delivery never gets too old. "
        "ID: X-GitHub-Delivery (not signed). "
        "Type: {header:X-GitHub-Event}.{json:action}, else X-GitHub-Event."
    )
    assert described.do.startswith("it accepts 1 secret (env:GITHUB); try it")


@pytest.mark.parametrize(
    ("secrets", "expected", "accepts"),
    [
        (
            [Secret(LONG, "a", ends=NOW), Secret(LONG, "b")],
            [("warning", "a secret of stripe (a) expired on 2026-05-22 14:42 UTC")],
            "2 secrets (a (not valid now), b)",
        ),
        (
            [Secret(LONG, "a", ends=NOW + 60), Secret(LONG, "b", starts=NOW + 60)],
            [("note", "a secret of stripe (b) is valid from 2026-05-22 14:43 UTC")],
            "2 secrets (a until 2026-05-22 14:43 UTC, b (not valid now))",
        ),
        (
            [Secret(LONG, "a", ends=NOW - 60)],
            [
                ("error", "no secret of stripe is valid now"),
                ("warning", "a secret of stripe (a) expired on 2026-05-22 14:41 UTC"),
            ],
            "1 secret (a (not valid now))",
        ),
    ],
)
def test_windows_are_judged_by_the_clock(
    secrets: list[Secret], expected: list[tuple[str, str]], accepts: str
) -> None:
    found = list(judge_sources([facts("stripe", *secrets)], NOW))
    assert objections(found) == expected
    assert accepts in found[-1].do


def test_what_keeps_a_receiver_from_starting_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SVIX_WEBHOOK_SECRET", "whsec_!!!!!!!!")
    monkeypatch.setenv("SQUARE_WEBHOOK_SECRET", LONG)
    settings = Settings(sources={"github": {}, "svix": {}, "square": {}})  # type: ignore[dict-item] # as a file gives them

    errors = [what for level, what in objections(judge(settings)) if level == "error"]
    assert [what.partition(": ")[2].partition(":")[0] for what in errors] == [
        "GITHUB_WEBHOOK_SECRET is not set",
        "a signing secret is not base64",
        "it signs its URL",
    ]
    assert [what.partition(": ")[0] for what in errors] == [
        "sources.github",
        "sources.svix",
        "sources.square",
    ]


def test_a_public_key_is_never_too_short() -> None:
    assert objections(list(judge_sources([facts("discord", Secret("ab" * 4))], NOW))) == []


def test_a_secret_is_never_shown() -> None:
    settings = Settings(
        marble_webhook_secret=SecretStr("hunter2"),
        qstash_current_signing_key=SecretStr("swordfish"),
    )

    said = repr(judge(settings))

    assert said.count("is shorter than 16") == 2
    assert "hunter2" not in said
    assert "swordfish" not in said


# --- QStash's callbacks ---

CALLBACKS: dict[str, Any] = {"sources": {"qstash-callbacks": {}}}


def judge_fields(fields: dict[str, Any]) -> list[Finding]:
    return judge(Settings(**fields))


def test_check_says_what_callbacks_are_and_how_to_close_what_a_capture_allows() -> None:
    *_, note, described = judge_fields({"qstash_current_signing_key": CURRENT_KEY} | CALLBACKS)

    assert note.what == "IDs of qstash-callbacks come from a header that is not signed"
    assert note.do.startswith('set id = "body" in [sources.qstash-callbacks]: a callback names')
    assert described.what == (
        "source qstash-callbacks accepts QStash's callbacks at /qstash-callbacks"
    )
    assert "Time: the token's, 5 min. ID: Upstash-Message-Id (not signed)." in described.why
    assert "env:QSTASH_CURRENT_SIGNING_KEY" in described.do
    assert CURRENT_KEY not in repr((note, described))

    closed = {"sources": {"qstash-callbacks": {"id": "body"}}}
    found = judge_fields({"qstash_current_signing_key": CURRENT_KEY} | closed)
    assert [one.what for one in found if "qstash-callbacks" in one.what] == [described.what]


def test_check_says_that_callbacks_without_a_key_would_not_start() -> None:
    assert [one.what for one in judge_fields(CALLBACKS) if one.level == "error"] == [
        "sources.qstash-callbacks: QSTASH_CURRENT_SIGNING_KEY is not set: it signs callbacks too"
    ]
