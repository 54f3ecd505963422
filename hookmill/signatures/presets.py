"""The table of known senders: how each signs, where ID and event type stand, how to set it up.

Code is only what a table cannot describe: QStash's tokens (`qstash`), the certificates of SNS and
PayPal, and three contents (`content_rules`). The page of all sources is generated from this table.
"""

# Long because: it is one table, with one entry for each sender.

from __future__ import annotations

from typing import NamedTuple

from hookmill.signatures.spec import SignatureSpec


class Preset(NamedTuple):
    """A known sender: its name for people, how it signs, and how to set it up.

    `where` is the place where the endpoint is registered, `secret` is what to use as the secret,
    `note` is what is unusual about this sender.
    """

    title: str
    spec: SignatureSpec
    where: str
    secret: str
    note: str = ""


def _standard(prefix: str = "webhook", **changes: object) -> SignatureSpec:
    """Return a spec of Standard Webhooks: signatures in one header, over ID, time and body."""
    words: dict[str, object] = {
        "signature": f"header:{prefix}-signature",
        "key": "base64",
        "key_prefix": "whsec_",
        "encoding": "base64",
        "split": " ",
        "pair": ",",
        "item": "v1",
        "content": "{id}.{timestamp}.{body}",
        "timestamp": f"header:{prefix}-timestamp",
        "id": (f"header:{prefix}-id",),
        "type": ("json:type",),
        **changes,
    }
    return SignatureSpec(**words)  # type: ignore[arg-type] # a table of the fields


def _over_body(header: str, **changes: object) -> SignatureSpec:
    """Return a spec with a signature of the body alone, in a header."""
    return SignatureSpec(signature=f"header:{header}", **changes)  # type: ignore[arg-type] # the same


PRESETS = {
    # --- Standard Webhooks, and senders that follow it ---
    "standard-webhooks": Preset(
        "Standard Webhooks",
        _standard(),
        "at every sender that says it follows Standard Webhooks",
        "the signing secret, with whsec_",
    ),
    "standard-webhooks-v1a": Preset(
        "Standard Webhooks, asymmetric (v1a)",
        _standard(algorithm="ed25519", key_prefix="whpk_", item="v1a"),
        "at every sender that offers asymmetric signatures",
        "the public key, with whpk_",
        "needs hookmill[asymmetric]",
    ),
    "svix": Preset(
        "Svix",
        _standard("svix"),
        "the application's endpoints in Svix",
        "the endpoint's signing secret, whsec_...",
    ),
    "clerk": Preset(
        "Clerk",
        _standard("svix"),
        "Clerk's dashboard, Webhooks, Add Endpoint",
        "the endpoint's signing secret, whsec_...",
    ),
    "resend": Preset(
        "Resend",
        _standard("svix"),
        "Resend's dashboard, Webhooks, Add Webhook",
        "the webhook's signing secret, whsec_...",
    ),
    "openai": Preset(
        "OpenAI",
        _standard(key="base64-if-prefixed", bare=True),
        "the project's settings, Webhooks",
        "the endpoint's signing secret, whsec_...",
    ),
    "gitlab": Preset(
        "GitLab (signing token)",
        _standard(
            type=("{header:X-Gitlab-Event}", "json:object_kind"),
        ),
        "the project's or group's settings, Webhooks, with a signing token",
        "the signing token",
        "an older GitLab has only a secret token: use gitlab-token",
    ),
    "gitlab-token": Preset(
        "GitLab (secret token)",
        SignatureSpec(
            signature="header:X-Gitlab-Token",
            algorithm="token",
            content="",
            id=("header:Idempotency-Key",),
            type=("header:X-Gitlab-Event", "json:object_kind"),
        ),
        "the project's or group's settings, Webhooks, Secret token",
        "the secret token",
        "the token itself is sent: it proves who sends, but nothing about the body",
    ),
    # --- one HMAC over the body ---
    "marble": Preset(
        "Marble CMS",
        _over_body(
            "x-marble-signature",
            prefix="sha256=",
            bare=True,
            id=("json:id", "header:Upstash-Message-Id"),
            type=("json:type", "json:event"),
        ),
        "the workspace's settings, Webhooks",
        "the webhook's secret",
        "the older generation's ID is not signed; see hookmill check",
    ),
    "github": Preset(
        "GitHub",
        _over_body(
            "X-Hub-Signature-256",
            prefix="sha256=",
            id=("header:X-GitHub-Delivery",),
            type=("{header:X-GitHub-Event}.{json:action}", "header:X-GitHub-Event"),
        ),
        "the repository's or organisation's settings, Webhooks; content type application/json",
        "the webhook's secret",
        "GitHub does not retry by itself; a delivery that you redeliver by hand keeps its ID",
    ),
    "bitbucket": Preset(
        "Bitbucket Cloud",
        _over_body(
            "X-Hub-Signature",
            prefix="sha256=",
            id=("header:X-Request-UUID",),
            type=("header:X-Event-Key",),
        ),
        "the repository's settings, Webhooks",
        "the webhook's secret",
    ),
    "meta": Preset(
        "Meta (Facebook, Instagram, WhatsApp)",
        _over_body(
            "X-Hub-Signature-256",
            prefix="sha256=",
            type=("{json:object}.{json:entry.0.changes.0.field}", "json:object"),
            handshake="meta",
        ),
        "the app's dashboard, Webhooks; the verify token is the source's verify_token",
        "the app secret",
        "deliveries have no ID",
    ),
    "intercom": Preset(
        "Intercom",
        _over_body(
            "X-Hub-Signature",
            algorithm="hmac-sha1",
            prefix="sha1=",
            id=("json:id",),
            type=("json:topic",),
            handshake="head",
        ),
        "the app's Developer Hub, Webhooks",
        "the app's client secret",
    ),
    "shopify": Preset(
        "Shopify",
        _over_body(
            "X-Shopify-Hmac-Sha256",
            encoding="base64",
            id=("header:X-Shopify-Webhook-Id",),
            type=("header:X-Shopify-Topic",),
        ),
        "the app's configuration, or the store's settings, Notifications, Webhooks",
        "the app's client secret",
        "after a rotation the old secret may sign for an hour: give both",
    ),
    "woocommerce": Preset(
        "WooCommerce",
        _over_body(
            "X-WC-Webhook-Signature",
            encoding="base64",
            # Two deliveries of one second can have the same ID, but not the same body.
            id=("body",),
            type=("header:X-WC-Webhook-Topic",),
            handshake="woocommerce",
        ),
        "the store's settings, Advanced, Webhooks",
        "the webhook's secret",
        "its delivery ID is not unique, so a digest of the body is the message ID",
    ),
    "typeform": Preset(
        "Typeform",
        _over_body(
            "Typeform-Signature",
            prefix="sha256=",
            encoding="base64",
            id=("json:event_id",),
            type=("json:event_type",),
        ),
        "the form, Connect, Webhooks",
        "the webhook's secret",
    ),
    "vercel": Preset(
        "Vercel",
        _over_body(
            "x-vercel-signature", algorithm="hmac-sha1", id=("json:id",), type=("json:type",)
        ),
        "the team's settings, Webhooks",
        "the webhook's secret",
    ),
    "dropbox": Preset(
        "Dropbox",
        _over_body("X-Dropbox-Signature", handshake="dropbox"),
        "the app's settings in the App Console, Webhook URIs",
        "the app secret",
        "a delivery says only whose files changed: it has no ID and no type",
    ),
    "lemonsqueezy": Preset(
        "Lemon Squeezy",
        _over_body("X-Signature", type=("header:X-Event-Name", "json:meta.event_name")),
        "the store's settings, Webhooks",
        "the webhook's signing secret",
        "deliveries have no ID",
    ),
    "linear": Preset(
        "Linear",
        _over_body(
            "Linear-Signature",
            timestamp="json:webhookTimestamp",
            unit="ms",
            tolerance=60.0,
            id=("header:Linear-Delivery",),
            type=("{json:type}.{json:action}", "json:type"),
        ),
        "the workspace's settings, API, Webhooks",
        "the webhook's signing secret",
    ),
    # --- time, ID or URL, and the body ---
    "stripe": Preset(
        "Stripe",
        SignatureSpec(
            signature="header:Stripe-Signature",
            split=",",
            pair="=",
            item="v1",
            content="{timestamp}.{body}",
            timestamp="item:t",
            id=("json:id",),
            type=("json:type",),
        ),
        "the Dashboard, Developers, Webhooks (or `stripe listen`)",
        "the endpoint's signing secret, the whole whsec_... text",
    ),
    "calendly": Preset(
        "Calendly",
        SignatureSpec(
            signature="header:Calendly-Webhook-Signature",
            split=",",
            pair="=",
            item="v1",
            content="{timestamp}.{body}",
            timestamp="item:t",
            tolerance=180.0,
            id=("{json:payload.uri}@{json:created_at}",),
            type=("json:event",),
        ),
        "the API: POST /webhook_subscriptions",
        "the signing key that the subscription was made with",
        "the message ID is made of the resource's URI and the time of the event",
    ),
    "sanity": Preset(
        "Sanity",
        SignatureSpec(
            signature="header:sanity-webhook-signature",
            encoding="base64url",
            split=", ",
            pair="=",
            item="v1",
            content="{timestamp}.{body}",
            timestamp="item:t",
            unit="ms",
            id=("header:idempotency-key",),
            type=("header:sanity-operation",),
        ),
        "the project's management page, API, Webhooks",
        "the webhook's secret",
    ),
    "ghost": Preset(
        "Ghost",
        SignatureSpec(
            signature="header:X-Ghost-Signature",
            split=", ",
            pair="=",
            item="sha256",
            content="{body}{timestamp}",
            timestamp="item:t",
            unit="ms",
            type=("json:event",),
        ),
        "Ghost Admin, Integrations, the custom integration's webhooks",
        "the webhook's secret",
        "Ghost from 5.87.1 on; deliveries have no ID",
    ),
    "paddle": Preset(
        "Paddle",
        SignatureSpec(
            signature="header:Paddle-Signature",
            split=";",
            pair="=",
            item="h1",
            content="{timestamp}:{body}",
            timestamp="item:ts",
            tolerance=5.0,
            id=("json:event_id",),
            type=("json:event_type",),
        ),
        "the dashboard, Developer tools, Notifications",
        "the destination's secret key, pdl_ntfset_...",
        "its time may differ by 5 s, as in Paddle's SDK: keep the clock right or raise tolerance",
    ),
    "slack": Preset(
        "Slack",
        SignatureSpec(
            signature="header:X-Slack-Signature",
            prefix="v0=",
            content="v0:{timestamp}:{body}",
            timestamp="header:X-Slack-Request-Timestamp",
            id=("json:event_id", "form:trigger_id"),
            type=("json:event.type", "form:command", "json:type"),
            handshake="slack",
        ),
        "the app's page, Event Subscriptions (and Slash Commands)",
        "the app's signing secret",
    ),
    "zoom": Preset(
        "Zoom",
        SignatureSpec(
            signature="header:x-zm-signature",
            prefix="v0=",
            content="v0:{timestamp}:{body}",
            timestamp="header:x-zm-request-timestamp",
            type=("json:event",),
            handshake="zoom",
        ),
        "the app in Zoom's marketplace, Event Subscriptions",
        "the app's secret token",
        "deliveries have no ID",
    ),
    "twitch": Preset(
        "Twitch EventSub",
        SignatureSpec(
            signature="header:Twitch-Eventsub-Message-Signature",
            prefix="sha256=",
            content="{id}{timestamp}{body}",
            timestamp="header:Twitch-Eventsub-Message-Timestamp",
            unit="rfc3339",
            tolerance=600.0,
            id=("header:Twitch-Eventsub-Message-Id",),
            type=("json:subscription.type", "header:Twitch-Eventsub-Subscription-Type"),
            handshake="twitch",
        ),
        "the API: POST /eventsub/subscriptions",
        "the secret that the subscription was made with",
    ),
    "square": Preset(
        "Square",
        _over_body(
            "x-square-hmacsha256-signature",
            encoding="base64",
            content="{url}{body}",
            id=("json:event_id",),
            type=("json:type",),
        ),
        "the Developer Console, the application's webhook subscriptions",
        "the subscription's signature key",
        "needs HOOKMILL_PUBLIC_URL, or the source's url, exactly as it was registered",
    ),
    "hubspot": Preset(
        "HubSpot (v3)",
        SignatureSpec(
            signature="header:X-HubSpot-Signature-v3",
            encoding="base64",
            content="{hubspot}",
            timestamp="header:X-HubSpot-Request-Timestamp",
            unit="ms",
            # The ID of an event is not always unique, and a delivery holds several events.
            id=("body",),
            type=("json:0.subscriptionType",),
        ),
        "the app's settings, Webhooks",
        "the app's client secret",
        "needs HOOKMILL_PUBLIC_URL, or the source's url, exactly as it was registered",
    ),
    "twilio": Preset(
        "Twilio",
        SignatureSpec(
            signature="header:X-Twilio-Signature",
            algorithm="hmac-sha1",
            encoding="base64",
            content="{twilio}",
            id=("header:I-Twilio-Idempotency-Token",),
            type=("form:MessageStatus", "form:CallStatus", "json:Type"),
        ),
        "the number's or service's webhook URLs in the Console",
        "the account's primary auth token",
        "needs HOOKMILL_PUBLIC_URL, or the source's url, exactly as it was registered",
    ),
    "mailgun": Preset(
        "Mailgun",
        SignatureSpec(
            signature="json:signature.signature",
            content="{timestamp}{json:signature.token}",
            timestamp="json:signature.timestamp",
            # It retries for eight hours, and does not say whether it signs each attempt again.
            tolerance=9 * 3600.0,
            id=("json:signature.token",),
            type=("json:event-data.event",),
            single_use="json:signature.token",
            unsigned_body=True,
        ),
        "the domain's settings, Webhooks",
        "the HTTP webhook signing key",
        "the event itself is not signed; each token is accepted once",
    ),
    "contentful": Preset(
        "Contentful",
        SignatureSpec(
            signature="header:x-contentful-signature",
            content="{contentful}",
            timestamp="header:x-contentful-timestamp",
            unit="ms",
            tolerance=30.0,
            id=("header:X-Contentful-Idempotency-Key",),
            type=("header:X-Contentful-Topic",),
        ),
        "the space's settings, Webhooks; request verification under the settings of webhooks",
        "the signing secret, 64 characters",
    ),
    # --- public keys ---
    "discord": Preset(
        "Discord",
        SignatureSpec(
            signature="header:X-Signature-Ed25519",
            algorithm="ed25519",
            key="hex",
            content="{timestamp}{body}",
            timestamp="header:X-Signature-Timestamp",
            id=("json:id",),
            type=("json:event.type",),
            handshake="discord",
        ),
        "the application's page, General Information (interactions) or Webhooks (events)",
        "the application's public key",
        "needs hookmill[asymmetric]",
    ),
    "sendgrid": Preset(
        "SendGrid",
        SignatureSpec(
            signature="header:X-Twilio-Email-Event-Webhook-Signature",
            algorithm="ecdsa-p256",
            key="base64",
            encoding="base64",
            content="{timestamp}{body}",
            timestamp="header:X-Twilio-Email-Event-Webhook-Timestamp",
            # It retries for a day. Its IDs are signed, so a replay is dropped as a duplicate.
            tolerance=25 * 3600.0,
            id=("json:0.sg_event_id",),
            type=("json:0.event",),
        ),
        "the settings, Mail Settings, Event Webhook, with Signature Verification on",
        "the verification key (the public key)",
        "a delivery holds many events; the first gives ID and type. Needs hookmill[asymmetric]",
    ),
    # --- no signature ---
    "strapi": Preset(
        "Strapi",
        SignatureSpec(
            signature="header:Authorization",
            algorithm="token",
            prefix="Bearer ",
            content="",
            type=("header:X-Strapi-Event", "json:event"),
        ),
        "Strapi's settings, Webhooks, with a header Authorization: Bearer SECRET",
        "the text after Bearer",
        "Strapi signs nothing: the token proves who sends, but nothing about the body",
    ),
}
"""The senders by the name of their preset. QStash, SNS and PayPal are code instead."""

ALIASES = {
    "brex": "svix",
    "gitlab-legacy": "gitlab-token",
    "hubspot-v3": "hubspot",
    "lemon-squeezy": "lemonsqueezy",
    "whatsapp": "meta",
}
"""Other names that a source may use for a preset."""
