"""What a source's table may say, and which scheme follows."""

from __future__ import annotations

import re
from typing import Any

import pytest
from pydantic import ValidationError

from hookmill.config.source_options import HANDSHAKES, SourceOptions, spec_of
from hookmill.signatures.presets import ALIASES, PRESETS


def options(**given: Any) -> SourceOptions:
    return SourceOptions.model_validate(given)


def test_a_sender_is_known_by_the_tables_name_or_by_its_preset() -> None:
    assert spec_of("github", options()) == PRESETS["github"].spec
    assert spec_of("our-repositories", options(preset="github")) == PRESETS["github"].spec
    assert spec_of("qstash", options()) is None  # its scheme is code
    assert spec_of("qstash-callbacks", options(ordered_by="sourceMessageId", id="body")) is None


def test_a_sender_may_be_called_by_another_of_its_names() -> None:
    assert spec_of("whatsapp", options()) == PRESETS["meta"].spec
    assert spec_of("ours", options(preset="hubspot-v3")) == PRESETS["hubspot"].spec
    assert {*ALIASES.values()} <= {*PRESETS}
    assert not {*ALIASES} & {*PRESETS}


def test_the_words_of_a_table_change_a_preset() -> None:
    spec = spec_of("paddle", options(tolerance=60, id="json:notification_id"))
    assert spec is not None
    assert (spec.tolerance, spec.id) == (60, ("json:notification_id",))
    assert spec.content == PRESETS["paddle"].spec.content


def test_a_sender_of_ones_own_is_described_with_the_same_words() -> None:
    spec = spec_of(
        "acme",
        options(
            signature="header:X-Acme-Signature",
            algorithm="hmac-sha512",
            prefix="v1=",
            encoding="base64",
            content="{timestamp}.{body}",
            timestamp="header:X-Acme-Time",
            id=["header:X-Acme-ID", "json:id"],
            type="json:kind",
        ),
    )
    assert spec is not None
    assert (spec.algorithm, spec.id, spec.type) == (
        "hmac-sha512", ("header:X-Acme-ID", "json:id"), ("json:kind",)
    )  # fmt: skip


@pytest.mark.parametrize(
    ("name", "given", "said"),
    [
        ("acme", {}, "sources.acme: there is no such sender"),
        ("acme", {"preset": "acmee"}, "sources.acme.preset: there is no sender acmee"),
        (
            "qstash",
            {"content": "{body}"},
            "sources.qstash.content: remove it, the scheme of qstash",
        ),
        ("github", {"timestamped": True}, "sources.github.timestamped: only marble has"),
        ("acme", {"signature": "X-Sig"}, "sources.acme.signature: 'X-Sig' is no place"),
        (
            "acme",
            {"signature": "header:S", "content": "{header:X-Id}"},
            "sources.acme.content: it does not hold {body}",
        ),
        (
            "acme",
            {"signature": "header:S", "timestamp": "header:T"},
            "sources.acme.timestamp: the signature does not cover it",
        ),
        (
            "acme",
            {"signature": "header:S", "content": "{header:A}{header:B}{body}"},
            "sources.acme.content: nothing separates {header:A} from {header:B}",
        ),
        (
            "sns",
            {"topics": "arn", "ordered_by": "MessageAttributes.customer.Value"},
            "sources.sns.ordered_by: the signature does not cover",
        ),
        ("paypal", {"ordered_by": "resource.id"}, "sources.paypal.ordered_by: the signature does"),
        ("mailgun", {"ordered_by": "event-data.id"}, "sources.mailgun.ordered_by: the signature"),
        ("mailgun", {"id": "json:event-data.id"}, "sources.mailgun.id: the signature covers"),
        ("mailgun", {"id": "body"}, "sources.mailgun.id: the signature covers"),
        ("qstash", {"url": "https://x.example/y"}, "sources.qstash.url: remove it, QStash's URL"),
        (
            "us",
            {"preset": "qstash-callbacks", "url": "https://x.example/y"},
            "sources.us.url: remove it, QSt",
        ),
        ("qstash-callbacks", {"type": "json:x"}, "sources.qstash-callbacks.type: remove it"),
        ("qstash-callbacks", {"content": "x"}, "sources.qstash-callbacks.content: remove it, the"),
        ("github", {"content": "{body"}, "sources.github.content: a brace in '{body'"),
        ("github", {"tolerance": 60, "timestamp": "header:Date"}, "sources.github.timestamp: the"),
    ],
)
def test_what_is_unknown_or_unsafe_is_a_fault_that_says_so(
    name: str, given: dict[str, Any], said: str
) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(said)}"):
        spec_of(name, options(**given))


def test_every_fault_of_a_spec_is_reported_on_its_own_line() -> None:
    given = options(signature="nowhere", timestamp="neither", id="nor here")
    with pytest.raises(ValueError, match="no place") as caught:
        spec_of("acme", given)
    assert [line.split(":")[0] for line in str(caught.value).splitlines()] == [
        "sources.acme.signature", "sources.acme.timestamp", "sources.acme.id"
    ]  # fmt: skip


@pytest.mark.parametrize(
    "given",
    [
        {"path": "/healthz"},
        {"path": "no-slash"},
        {"url": "app.example"},
        {"url": "https://app.example/#x"},
        {"secrets": "the secret itself"},
        {"algorithm": "md5"},
        {"handshake": "knock-knock"},
        {"ordered_by": "a..b"},
        {"sig": "header:S"},
    ],
)
def test_a_word_that_cannot_be_used_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        options(**given)


def test_every_preset_is_safe_and_its_handshake_is_known() -> None:
    for name, preset in PRESETS.items():
        assert spec_of(name, options()) == preset.spec
        assert preset.spec.handshake in {"", *HANDSHAKES}


def test_fields_are_redacted_by_paths() -> None:
    assert options(redact="data.email").redact == ("data.email",)
    assert options(redact=["a.*", "header:X-A"]).redact == ("a.*", "header:X-A")
    with pytest.raises(ValidationError, match=r"'a\.\.b' is no path.*; 'header:' is no header"):
        options(redact=["a..b", "c", "header:"])


@pytest.mark.parametrize(
    ("given", "redact", "place"),
    [
        ({"preset": "stripe"}, "ID", "json:id"),
        ({"preset": "stripe", "ordered_by": "data.id"}, "data", "json:data.id"),
        ({"preset": "github"}, "header:x-github-delivery", "header:X-GitHub-Delivery"),
        ({"preset": "sns", "ordered_by": "Subject"}, "subject", "json:Subject"),
        ({"preset": "github", "id": "{json:a}-{json:b}"}, "b", "json:b"),
    ],
)
def test_what_is_shown_everywhere_cannot_be_redacted(
    given: dict[str, Any], redact: str, place: str
) -> None:
    with pytest.raises(ValueError, match=f"^sources.ours.redact: {place} is or has the ID"):
        spec_of("ours", options(**given, redact=redact))
    spec_of("ours", options(**given, redact="other"))
