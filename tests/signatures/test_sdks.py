"""The senders' own SDKs as the other side: what they sign verifies here, what they refuse is
refused here, and the other way round, but for their defects, which are named.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
import standardwebhooks
import stripe
import svix
from multidict import CIMultiDict
from slack_sdk.signature import SignatureVerifier

from hookmill.signatures import Signed
from tests.signatures.sdks import EVENT, FORM, URL, Sdk, Twilio, ours
from tests.signatures.senders import (
    SYMMETRIC,
    delivery,
    scheme_of,
    spec_of,
    with_header,
    with_headers,
)


class Standard:
    """standardwebhooks and svix. Their clock is the real one."""

    def __init__(self, name: str, prefix: str, webhook: Callable[[str], Any]) -> None:
        self.name, self.prefix, self._webhook = name, prefix, webhook
        self.secret = SYMMETRIC[name]

    def sign(self, body: bytes, now: float) -> Signed:
        text = self._webhook(self.secret).sign(
            "msg_1", datetime.fromtimestamp(now, UTC), body.decode()
        )
        headers = {"id": "msg_1", "timestamp": str(int(now)), "signature": text}
        return delivery(body, {f"{self.prefix}-{name}": value for name, value in headers.items()})

    def accepts(self, signed: Signed, secret: str) -> bool:
        try:
            self._webhook(secret).verify(signed.body, dict(signed.headers))
        except (standardwebhooks.WebhookVerificationError, ValueError):
            return False  # a list that does not split, or is no base64, leaves it as a ValueError
        return True


class Stripe:
    """stripe.Webhook. Its clock is the real one."""

    name = "stripe"
    secret = "whsec_test_stripe_9a7d3e24"

    def sign(self, body: bytes, now: float) -> Signed:
        header = stripe.WebhookSignature.generate_signature_header(
            body.decode(), self.secret, int(now)
        )
        return delivery(body, {"Stripe-Signature": header})

    def accepts(self, signed: Signed, secret: str) -> bool:
        header = signed.headers.get("Stripe-Signature")
        try:
            stripe.Webhook.construct_event(signed.body, header, secret)
        except (stripe.SignatureVerificationError, ValueError, TypeError):
            return False  # a body in no UTF-8, a signature that is not ASCII
        return True


class Slack:
    """slack_sdk's SignatureVerifier."""

    name = "slack"
    secret = "8f742231b10e8888abcd99yyyzzz85a5"

    def sign(self, body: bytes, now: float) -> Signed:
        stamp = str(int(now))
        text = SignatureVerifier(self.secret).generate_signature(timestamp=stamp, body=body)
        assert text is not None
        return delivery(body, {"X-Slack-Request-Timestamp": stamp, "X-Slack-Signature": text})

    def accepts(self, signed: Signed, secret: str) -> bool:
        try:
            return SignatureVerifier(secret).is_valid_request(signed.body, dict(signed.headers))
        except (ValueError, TypeError):
            return False  # a time that is no number, a signature that is not ASCII


STANDARD = Standard("standard-webhooks", "webhook", standardwebhooks.Webhook)
SVIX = Standard("svix", "svix", svix.Webhook)
SDKS: list[Sdk] = [STANDARD, SVIX, Stripe(), Slack(), Twilio()]
SIGNED = [(sdk, body) for sdk in SDKS for body in (EVENT, b'{"a":"\xc3\xbc"}\n')]
SIGNED += [(Slack(), FORM), (Twilio(), FORM), (Twilio(), b"a=1&a=2&a=1&B=%C3%BC+%26&c=&d=1")]
by_name = [f"{sdk.name}-{number}" for number, (sdk, _) in enumerate(SIGNED)]


# --- signed by one, judged by the other ---


@pytest.mark.parametrize(("sdk", "body"), SIGNED, ids=by_name)
def test_what_an_sdk_signs_verifies_here(sdk: Sdk, body: bytes) -> None:
    assert ours(sdk, sdk.sign(body, time.time()))


@pytest.mark.parametrize(("sdk", "body"), SIGNED, ids=by_name)
def test_what_we_sign_its_sdk_accepts(sdk: Sdk, body: bytes) -> None:
    plain = delivery(body, sdk.sign(body, time.time()).headers, url=URL)
    signed = scheme_of(sdk.name, sdk.secret).sign(plain, time.time())
    assert ours(sdk, signed)
    if (sdk.name, body[:5]) != ("stripe", b'{"a":'):  # it builds its event from the body as well
        assert sdk.accepts(signed, sdk.secret)


# --- mutations: the verdicts are the same ---

Mutate = Callable[[Signed, str, str], Signed]
"""Changes a delivery, given the headers of its signature and of its time ("": none)."""


def on_signature(change: Callable[[str], str]) -> Mutate:
    return lambda signed, signature, _: with_header(
        signed, signature, change(signed.headers[signature])
    )


def on_time(change: Callable[[str], str]) -> Mutate:
    def mutate(signed: Signed, signature: str, stamp: str) -> Signed:
        header = stamp or signature
        value = signed.headers[header]
        now = value if stamp else value.partition("t=")[2].partition(",")[0]
        return with_header(signed, header, value.replace(now, change(now), 1) if now else value)

    return mutate


def on_body(change: Callable[[bytes], bytes]) -> Mutate:
    return lambda signed, _, __: signed._replace(body=change(signed.body))


def spelt(change: Callable[[str], str]) -> Mutate:
    """Spell the headers' names otherwise."""
    return lambda signed, _, __: signed._replace(
        headers=CIMultiDict({change(name): value for name, value in signed.headers.items()})
    )


MUTATIONS: dict[str, Mutate] = {
    "nothing": lambda signed, _, __: signed,
    "body: a byte changed": on_body(lambda body: body[:-3] + b"!" + body[-2:]),
    "body: a byte more": on_body(lambda body: body + b" "),
    "body: a byte less": on_body(lambda body: body[:-1]),
    "body: empty": on_body(lambda _: b""),
    "body: not UTF-8": on_body(lambda body: body + b"\xff"),
    "signature: first digit": on_signature(lambda text: text.replace(text[9:12], "abc", 1)),
    "signature: last character changed": on_signature(lambda text: text[:-2] + "AA"),
    "signature: cut": on_signature(lambda text: text[:-4]),
    "signature: empty": on_signature(lambda _: ""),
    "signature: upper case": on_signature(str.upper),
    "signature: not ASCII": on_signature(lambda text: text[:-1] + "\u00fc"),
    "signature: a space before": on_signature(lambda text: " " + text),
    "signature: a space behind": on_signature(lambda text: text + " "),
    "signature: of another version": on_signature(
        lambda text: text.replace("v1", "v2").replace("v0", "v3")
    ),
    "signature: unused bits": on_signature(lambda text: text.replace(text[-2:], other_bits(text))),
    "signature: no padding": on_signature(lambda text: text.rstrip("=")),
    "signature: more padding": on_signature(lambda text: text + "="),
    "signature: twice in the list": on_signature(lambda text: f"{text} {text}"),
    "signature: behind an item of one word": on_signature(lambda text: f"word {text}"),
    "signature: behind an item of three": on_signature(lambda text: f"a,b,c {text}"),
    "signature: no version": on_signature(lambda text: text.partition(",")[2] or text[3:]),
    "time: a second later": on_time(lambda now: str(int(now) + 1)),
    "time: an hour old": on_time(lambda now: str(int(now) - 3600)),
    "time: an hour ahead": on_time(lambda now: str(int(now) + 3600)),
    "time: a float": on_time(lambda now: now + ".0"),
    "time: half a second later": on_time(lambda now: now + ".5"),
    "time: an exponent": on_time(lambda now: f"{int(now)}e0"),
    "time: a zero before": on_time(lambda now: "0" + now),
    "time: a plus before": on_time(lambda now: "+" + now),
    "time: a space before": on_time(lambda now: " " + now),
    "time: no number": on_time(lambda _: "soon"),
    "time: not a number": on_time(lambda _: "nan"),
    "time: empty": on_time(lambda _: ""),
    "id: another": lambda signed, _, __: with_headers(
        signed,
        **{name.replace("-", "_"): "msg_2" for name in signed.headers if name.endswith("-id")},
    ),
    "id: empty": lambda signed, _, __: with_headers(
        signed, **{name.replace("-", "_"): "" for name in signed.headers if name.endswith("-id")}
    ),
    "headers: lower case": spelt(str.lower),
    "headers: upper case": spelt(str.upper),
    "headers: underscores": spelt(lambda name: name.replace("-", "_")),
    "headers: no signature": lambda signed, signature, _: with_header(signed, signature),
    "headers: no time": lambda signed, _, stamp: with_header(signed, stamp or "X-Nothing"),
}


def other_bits(text: str) -> str:
    """The last two characters of base64, with bits set that its last byte does not use."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    if not text.endswith("="):
        return text[-2:]
    return alphabet[alphabet.index(text[-2]) | 1] + "="


NOT_CANONICAL = "it compares decoded bytes, so that one signature has many spellings"
FLOATS = "it reads the time as a float and signs the whole seconds of it again"
GIVES_UP = "it gives up on a list with an item that is no pair, as a ValueError"

DEFECTS: dict[tuple[str, str], tuple[bool, str]] = (
    {
        (name, mutation): (accepts, reason)
        for name in ("standard-webhooks", "svix")
        for mutation, accepts, reason in (
            ("signature: unused bits", True, NOT_CANONICAL),
            ("signature: more padding", True, NOT_CANONICAL),
            ("time: a float", True, FLOATS),
            ("time: half a second later", True, FLOATS),
            ("time: an exponent", True, FLOATS),
            ("time: a zero before", True, FLOATS),
            ("time: a plus before", True, FLOATS),
            ("time: a space before", True, FLOATS),
            ("signature: a space before", False, GIVES_UP),
            ("signature: behind an item of one word", False, GIVES_UP),
            ("signature: behind an item of three", False, GIVES_UP),
        )
    }
    | {
        ("stripe", mutation): (True, "it reads the time with int() and signs its digits again")
        for mutation in ("time: a zero before", "time: a plus before", "time: a space before")
    }
    | {
        ("stripe", "signature: more padding"): (
            True,
            "it takes a second = for the end of a signature",
        ),
    }
)
"""Where an SDK's verdict (whether it accepts) is not ours, and why ours is right."""


@pytest.mark.parametrize(("sdk", "body"), SIGNED, ids=by_name)
@pytest.mark.parametrize("mutation", MUTATIONS)
def test_an_sdk_and_we_give_the_same_verdict(sdk: Sdk, body: bytes, mutation: str) -> None:
    if sdk.name == "stripe":
        body = EVENT  # it builds its event from the body as well
    spec = spec_of(sdk.name)
    stamp = spec.timestamp.partition(":")[2] if spec.timestamp.startswith("header:") else ""
    signature = spec.signature.partition(":")[2]
    if mutation.startswith("time") and not spec.timestamp:
        return
    mutant = MUTATIONS[mutation](sdk.sign(body, time.time()), signature, stamp)
    theirs, mine = sdk.accepts(mutant, sdk.secret), ours(sdk, mutant)
    defect = DEFECTS.get((sdk.name, mutation))
    if defect is not None:
        assert (theirs, mine) == (defect[0], not defect[0]), defect[1]
    else:
        assert theirs == mine


@pytest.mark.parametrize("age", [-299, 0, 290, 310, 3600])
@pytest.mark.parametrize("sdk", SDKS[:4], ids=[sdk.name for sdk in SDKS[:4]])
def test_an_sdk_and_we_tolerate_the_same_age(sdk: Sdk, age: int) -> None:
    signed = sdk.sign(EVENT, time.time() - age)
    assert ours(sdk, signed) == sdk.accepts(signed, sdk.secret) == (abs(age) < 300)


@pytest.mark.parametrize("sdk", SDKS[:4], ids=[sdk.name for sdk in SDKS[:4]])
def test_a_time_ahead_is_refused_where_stripes_sdk_looks_at_old_ones_alone(sdk: Sdk) -> None:
    signed = sdk.sign(EVENT, time.time() + 310)
    assert not ours(sdk, signed)
    assert sdk.accepts(signed, sdk.secret) == (sdk.name == "stripe")


@pytest.mark.parametrize("sdk", SDKS, ids=[sdk.name for sdk in SDKS])
def test_another_secret_is_refused_by_both(sdk: Sdk) -> None:
    signed = sdk.sign(EVENT, time.time())
    for other in ("c29tZWJvZHkgZWxzZQ==", sdk.secret[:-4], sdk.secret + "eHh4"):
        assert not ours(sdk, signed, other)
        assert not sdk.accepts(signed, other)


@pytest.mark.parametrize("unpadded", ["whsec_YTE", "whsec_YTEy", "YTEyMw", "whsec_YTEyMw=="])
@pytest.mark.parametrize("sdk", [STANDARD, SVIX], ids=["standard-webhooks", "svix"])
def test_a_secret_may_come_without_its_padding(sdk: Standard, unpadded: str) -> None:
    other = Standard(sdk.name, sdk.prefix, sdk._webhook)
    other.secret = unpadded
    assert ours(other, other.sign(EVENT, time.time()))


def test_an_id_that_could_lend_the_time_a_border_is_refused_where_the_sdk_takes_it() -> None:
    now = int(time.time())
    text = standardwebhooks.Webhook(STANDARD.secret).sign(
        "msg.1", datetime.fromtimestamp(now, UTC), EVENT.decode()
    )
    headers = {"webhook-id": "msg.1", "webhook-timestamp": str(now), "webhook-signature": text}
    assert STANDARD.accepts(delivery(EVENT, headers), STANDARD.secret)
    assert not ours(STANDARD, delivery(EVENT, headers))
