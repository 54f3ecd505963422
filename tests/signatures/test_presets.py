"""The table of senders: every row is safe and whole, and every sender of the promise is in it."""

from __future__ import annotations

import pytest

from hookmill.signatures import Verified
from hookmill.signatures.presets import PRESETS
from hookmill.signatures.spec_rules import faults_of
from tests.signatures.senders import ASYMMETRIC, NOW, SYMMETRIC, TOKENS, genuine, scheme_of

ALL = sorted(PRESETS)

PROMISED = {
    *("standard-webhooks", "standard-webhooks-v1a", "svix", "clerk", "resend", "openai", "gitlab"),
    *("gitlab-token", "marble", "github", "bitbucket", "stripe", "slack", "shopify", "twilio"),
    *("sendgrid", "mailgun", "paddle", "linear", "vercel", "discord", "zoom", "square"),
    *("contentful", "sanity", "ghost", "strapi", "intercom", "hubspot", "typeform", "calendly"),
    *("dropbox", "meta", "twitch", "lemonsqueezy", "woocommerce"),
}
"""QStash, SNS and PayPal are code."""

HANDSHAKES = {
    *("slack", "twitch", "zoom", "discord", "meta", "dropbox", "head", "woocommerce"),
}


def test_every_sender_that_is_promised_has_a_row() -> None:
    assert set(PRESETS) == PROMISED == SYMMETRIC.keys() | ASYMMETRIC.keys()


@pytest.mark.parametrize("name", ALL)
def test_every_row_is_safe(name: str) -> None:
    assert faults_of(PRESETS[name].spec) == []


@pytest.mark.parametrize("name", ALL)
def test_every_row_is_whole(name: str) -> None:
    preset = PRESETS[name]
    for words in (preset.title, preset.where, preset.secret):
        assert words.strip() == words != ""
    assert not preset.where.endswith(".")
    assert name == name.lower()
    assert preset.spec.handshake in HANDSHAKES | {""}
    assert preset.spec.acknowledge == 200


def test_no_two_senders_have_the_same_title() -> None:
    titles = [preset.title for preset in PRESETS.values()]
    assert len(titles) == len(set(titles))


@pytest.mark.parametrize("name", ALL)
def test_what_a_row_needs_beside_the_secret_is_said(name: str) -> None:
    preset = PRESETS[name]
    spec = preset.spec
    assert ("hookmill[asymmetric]" in preset.note) == (name in ASYMMETRIC)
    assert ("HOOKMILL_PUBLIC_URL" in preset.note) == spec.needs_url
    if not spec.covers_body:
        assert ("nothing about the body" if name in TOKENS else "not signed") in preset.note
        assert spec.unsigned_body or name in TOKENS
    assert spec.algorithm != "token" or name in TOKENS


@pytest.mark.parametrize("name", ALL)
def test_a_delivery_of_every_sender_verifies(name: str) -> None:
    assert scheme_of(name).verify(genuine(name), NOW) == Verified(0)


@pytest.mark.parametrize("name", ALL)
def test_a_delivery_of_one_sender_is_none_of_another_that_has_the_same_secret(name: str) -> None:
    if name in ASYMMETRIC:
        return
    twins = {
        "svix": {"clerk", "resend"},
        "clerk": {"svix", "resend"},
        "resend": {"clerk", "svix"},
        "standard-webhooks": {"openai", "gitlab"},
        "openai": {"standard-webhooks", "gitlab"},
        "gitlab": {"standard-webhooks", "openai"},
        "github": {"meta"},
        "meta": {"github"},
    }
    accepted = {
        other
        for other in SYMMETRIC
        if SYMMETRIC[other] == SYMMETRIC[name]
        and isinstance(scheme_of(other).verify(genuine(name), NOW), Verified)
    }
    assert accepted - {name} == twins.get(name, set())
