"""Signature specs: which content is signed, and how templates are read."""

from __future__ import annotations

import pytest

from hookmill.signatures.presets import PRESETS
from hookmill.signatures.spec import as_template, parts
from tests.signatures.senders import spec_of


@pytest.mark.parametrize(
    ("name", "template", "is_signed"),
    [
        ("svix", "header:svix-id", True),
        ("svix", "header:svix-timestamp", True),
        ("svix", "{header:svix-id}-{header:X-Other}", False),
        ("svix", "json:type", True),
        ("github", "header:X-GitHub-Delivery", False),
        ("github", "{header:X-GitHub-Event}.{json:action}", False),
        ("github", "json:action", True),
        ("github", "body", True),
        ("stripe", "item:t", True),
        ("stripe", "item:v0", False),
        ("slack", "form:trigger_id", True),
        ("calendly", "{json:payload.uri}@{json:created_at}", True),
        ("twitch", "header:Twitch-Eventsub-Message-Id", True),
        ("twitch", "header:Twitch-Eventsub-Subscription-Type", False),
        ("hubspot", "header:X-HubSpot-Request-Timestamp", True),
        ("contentful", "header:x-contentful-timestamp", True),
        # Signed only where it is listed, and who can say that of all deliveries.
        ("contentful", "header:X-Contentful-Idempotency-Key", False),
        ("mailgun", "json:signature.token", True),
        ("mailgun", "json:signature.timestamp", True),
        ("mailgun", "json:event-data.id", False),
        ("mailgun", "body", False),
        ("gitlab-token", "header:Idempotency-Key", False),
        ("gitlab-token", "json:object_kind", False),
        ("gitlab-token", "body", False),
        ("twilio", "header:I-Twilio-Idempotency-Token", False),
        ("twilio", "form:MessageSid", False),
    ],
)
def test_it_says_what_is_under_the_signature(name: str, template: str, is_signed: bool) -> None:
    assert spec_of(name).is_signed(template) == is_signed


@pytest.mark.parametrize(
    ("template", "taken"),
    [
        ("", [("", "")]),
        ("text", [("text", "")]),
        ("{body}", [("", "body")]),
        ("v0:{timestamp}:{body}", [("v0:", "timestamp"), (":", "body")]),
        ("{body}!", [("", "body"), ("!", "")]),
    ],
)
def test_a_template_is_parsed_into_its_parts(template: str, taken: list[tuple[str, str]]) -> None:
    assert list(parts(template)) == taken


def test_a_place_alone_is_a_template() -> None:
    assert as_template("header:X-Id") == "{header:X-Id}"
    assert as_template("{json:a}.{json:b}") == "{json:a}.{json:b}"


def test_what_depends_on_the_url_says_so() -> None:
    needing = {name for name, preset in PRESETS.items() if preset.spec.needs_url}
    assert needing == {"square", "hubspot", "twilio"}
