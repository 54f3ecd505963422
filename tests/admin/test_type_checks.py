"""What `hookmill check` says of event types that are not signed."""

from __future__ import annotations

import pytest

from hookmill.admin.source_checks import SourceFacts
from hookmill.admin.type_checks import judge_types
from hookmill.signatures import Secret
from hookmill.signatures.presets import PRESETS


def facts(name: str, named: tuple[str, ...] | None = None) -> SourceFacts:
    secrets = (Secret("0123456789abcdef", "env:X"),)
    return SourceFacts(name, name, f"/{name}", PRESETS[name].spec, named, secrets, ())


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("github", "{header:X-GitHub-Event}.{json:action}"),
        ("bitbucket", "X-Event-Key"),
        ("shopify", "X-Shopify-Topic"),
        ("woocommerce", "X-WC-Webhook-Topic"),
        ("sanity", "sanity-operation"),
        ("lemonsqueezy", "X-Event-Name"),
    ],
)
def test_a_type_that_anybody_can_exchange_is_noted(name: str, place: str) -> None:
    (found,) = judge_types([facts(name)])
    assert (found.level, found.what) == ("note", f"types of {name} come from what is not signed")
    assert found.why.startswith(
        f"anyone who captures a delivery can send it as another type ({place})"
    )


def test_where_signed_places_come_first_that_is_said() -> None:
    (found,) = judge_types([facts("twitch")])
    assert found.what.endswith("come from what is not signed, if the signed places have none")


def test_a_digest_of_the_body_as_the_id_closes_it_for_what_was_stored() -> None:
    (found,) = judge_types([facts("github", ("body",))])
    assert found.why.startswith("a copy of a stored delivery is a duplicate")


def test_every_known_sender_whose_type_is_not_signed_is_noted() -> None:
    """The table of senders is the list: no preset is left out."""
    noted = {name for name in PRESETS if list(judge_types([facts(name)]))}
    for name, preset in PRESETS.items():
        spec = preset.spec
        by_header = [one for one in spec.type if "header:" in one and not spec.is_signed(one)]
        if by_header and spec.covers_body:
            assert name in noted
    assert {"stripe", "svix", "slack", "marble", "qstash"}.isdisjoint(noted)
