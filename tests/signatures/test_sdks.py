"""The senders' own SDKs as the other side: what they sign verifies here, what they refuse is
refused here, and the other way round, but for their defects, which are named.
"""

from __future__ import annotations

import base64
import hashlib
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, NamedTuple, Protocol
from urllib.parse import parse_qsl

import pytest
import qstash
import standardwebhooks
import stripe
import svix
from multidict import CIMultiDict, MultiDict
from qstash.errors import SignatureError
from slack_sdk.signature import SignatureVerifier
from twilio.request_validator import RequestValidator

from hookmill.signatures import Scheme, Signed, Verified
from hookmill.signatures.qstash import QStash
from tests.node import node_with
from tests.signatures.senders import (
    NOW,
    SYMMETRIC,
    delivery,
    scheme_of,
    spec_of,
    with_header,
    with_headers,
)

EVENT = b'{"id":"evt_1","object":"event","type":"order.paid"}'
FORM = b"token=t&command=%2Fweather&text=94070"
URL = "https://app.example/hook"


class Sdk(Protocol):
    """A sender's library: it signs a delivery, or says whether it accepts one."""

    name: str
    secret: str

    def sign(self, body: bytes, now: float) -> Signed: ...

    def accepts(self, signed: Signed, secret: str) -> bool: ...


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


class Twilio:
    """twilio's RequestValidator, given what its documentation says to give it."""

    name = "twilio"
    secret = "12345678901234567890123456789012"

    def sign(self, body: bytes, now: float) -> Signed:
        del now
        validator = RequestValidator(self.secret)
        if body.startswith(b"{"):
            target = f"/hook?bodySHA256={hashlib.sha256(body).hexdigest()}"
            text = validator.compute_signature("https://app.example" + target, {})
            kind = "application/json"
        else:
            target = "/hook"
            text = validator.compute_signature(URL, MultiDict(parse_qsl(body.decode(), True)))
            kind = "application/x-www-form-urlencoded"
        headers = {"X-Twilio-Signature": text, "Content-Type": kind}
        return delivery(body, headers, target, URL)

    def accepts(self, signed: Signed, secret: str) -> bool:
        is_form = "form" in signed.headers.get("Content-Type", "")
        try:
            text = signed.body.decode()
        except UnicodeDecodeError:
            return False
        given = MultiDict(parse_qsl(text, True)) if is_form else text
        url = URL if is_form else "https://app.example" + signed.target
        signature = signed.headers.get("X-Twilio-Signature", "")
        try:
            return bool(RequestValidator(secret).validate(url, given, signature))
        except (TypeError, AttributeError):
            return False  # a body that is no form, to a URL without its hash


STANDARD = Standard("standard-webhooks", "webhook", standardwebhooks.Webhook)
SVIX = Standard("svix", "svix", svix.Webhook)
SDKS: list[Sdk] = [STANDARD, SVIX, Stripe(), Slack(), Twilio()]
SIGNED = [(sdk, body) for sdk in SDKS for body in (EVENT, b'{"a":"\xc3\xbc"}\n')]
SIGNED += [(Slack(), FORM), (Twilio(), FORM), (Twilio(), b"a=1&a=2&a=1&B=%C3%BC+%26&c=&d=1")]
by_name = [f"{sdk.name}-{number}" for number, (sdk, _) in enumerate(SIGNED)]


def ours(sdk: Sdk, signed: Signed, secret: str | None = None) -> bool:
    scheme = scheme_of(sdk.name, sdk.secret if secret is None else secret)
    return isinstance(scheme.verify(signed, time.time()), Verified)


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


def test_twilios_validator_agrees_on_ports_and_on_the_bodys_hash() -> None:
    sdk = Twilio()
    validator = RequestValidator(sdk.secret)
    signed = sdk.sign(FORM, NOW)
    fields = MultiDict(parse_qsl(FORM.decode()))
    for configured in (URL, "https://app.example:443/hook", "https://app.example:8443/hook"):
        for signing in (URL, "https://app.example:443/hook", "https://app.example:8443/hook"):
            text = validator.compute_signature(signing, fields)
            mutant = with_headers(signed, X_Twilio_Signature=text)._replace(url=configured)
            assert ours(sdk, mutant) == validator.validate(configured, fields, text)
    wrong = sdk.sign(EVENT, NOW)
    wrong = wrong._replace(target=wrong.target[:-1] + ("0" if wrong.target[-1] != "0" else "1"))
    text = validator.compute_signature("https://app.example" + wrong.target, {})
    wrong = with_headers(wrong, X_Twilio_Signature=text)
    assert not ours(sdk, wrong)
    assert not sdk.accepts(wrong, sdk.secret)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (FORM + b"&token=t", "a field twice is the same as once: both take it"),
        (FORM.replace(b"%2F", b"%2f"), "an escape in lower case is the same field: both take it"),
        (b"token=tcommand%2Fweather", ""),
    ],
)
def test_what_twilio_does_not_sign_neither_of_us_can_see(body: bytes, reason: str) -> None:
    sdk = Twilio()
    mutant = sdk.sign(FORM, NOW)._replace(body=body)
    assert ours(sdk, mutant) == sdk.accepts(mutant, sdk.secret) == bool(reason)


@pytest.mark.parametrize(
    ("body", "theirs", "mine"),
    [
        # Names and values stand without a border in what Twilio signs: this is its scheme's own.
        (b"command=%2Fweathertext94070tokent", True, True),
        # The same without a value, or with two, is no form that Twilio sends.
        (b"command%2Fweather=text94070tokent", True, True),
        (b"command%2Fweather&text=94070&token=t", True, False),
        (b"&" + FORM, True, False),
    ],
)
def test_twilios_fields_have_no_borders_and_we_take_no_more_than_forms(
    body: bytes, theirs: bool, mine: bool
) -> None:
    sdk = Twilio()
    mutant = sdk.sign(FORM, NOW)._replace(body=body)
    assert sdk.accepts(mutant, sdk.secret) == theirs
    assert ours(sdk, mutant) == mine


# --- QStash, and what runs on Node ---

# As long as QStash's own: PyJWT warns of shorter ones.
CURRENT_KEY = "sig_3nj4aiyJ2JojDnQ1RRodpYubZAZxAJxNfQcRSKPwVUNbueYk2o"
NEXT_KEY = "sig_31zVqmL3s7Eo1vpu1jRSMpaetJXvAT3RvNcfoGUp1Toii8fsQE"
STRANGERS_KEY = "sig_6sG1V9Xq0ZbYw3TnRfKc8eLhJpQmUd2A5oEiWx7yNuBvHtPa4"
PUBLIC_URL = "https://app.example"
QSTASH = QStash([CURRENT_KEY, NEXT_KEY], public_url=PUBLIC_URL)


class Case(NamedTuple):
    """What is given to a verifier on Node, and what ours says to it."""

    what: str
    given: dict[str, Any]
    expected: bool


VERIFIERS = """
import { readFileSync } from "node:fs";
import { sign, verify } from "@octokit/webhooks-methods";
import { Receiver } from "@upstash/qstash";

const verdict = {
  sign: async ({ secret, body }) => sign(secret, body),
  github: async ({ secret, body, signature }) => verify(secret, body, signature),
  qstash: async ({ current, next, ...given }) =>
    new Receiver({ currentSigningKey: current, nextSigningKey: next }).verify(given),
};
const answers = [];
for (const { what, given } of JSON.parse(readFileSync(0, "utf8"))) {
  try {
    answers.push(await verdict[what](given));
  } catch {
    answers.push(false);
  }
}
console.log(JSON.stringify(answers));
"""


@pytest.fixture(scope="session")
def on_node(
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[[list[Case]], list[Any]]:
    """What the SDKs on Node answer, all in one process."""
    folder = tmp_path_factory.mktemp("node")
    program = tmp_path_factory.mktemp("program") / "verifiers.mjs"
    program.write_text(VERIFIERS)
    node = node_with(folder, program, "@octokit/webhooks-methods@6", "@upstash/qstash@2")

    def run(cases: list[Case]) -> list[Any]:
        given = [{"what": case.what, "given": case.given} for case in cases]
        answers: list[Any] = node.ask(program.name, given)
        return answers

    return run


GITHUB_BODIES = ['{"foo":"bar"}', "Hello, World!", '{"\u00fc":"\u2603"}', "a\n", "0"]


def octokit(body: str, signature: str, secret: str = "mysecret") -> Case:
    scheme: Scheme = scheme_of("github", secret)
    signed = delivery(body.encode(), {"X-Hub-Signature-256": signature})
    is_ours = isinstance(scheme.verify(signed, NOW), Verified)
    return Case("github", {"secret": secret, "body": body, "signature": signature}, is_ours)


@pytest.mark.external
def test_octokit_signs_and_verifies_as_we_do(on_node: Callable[[list[Case]], list[Any]]) -> None:
    signing = [Case("sign", {"secret": "mysecret", "body": body}, True) for body in GITHUB_BODIES]
    for body, signature in zip(GITHUB_BODIES, on_node(signing), strict=True):
        signed = scheme_of("github", "mysecret").sign(delivery(body.encode()), NOW)
        assert signed.headers["X-Hub-Signature-256"] == signature
        assert octokit(body, signature).expected
    body = GITHUB_BODIES[0]
    (genuine,) = on_node(signing[:1])
    cases = [octokit(body, genuine), octokit(body + " ", genuine), octokit("", genuine)]
    cases += [octokit(body, genuine, "other"), octokit(body, genuine.upper())]
    for change in (
        "",
        "sha256=",
        genuine[7:],
        genuine + "0",
        genuine[:-1],
        f" {genuine}",
        "\u00fc",
    ):
        cases.append(octokit(body, change))
    for place in range(len(genuine)):
        other = "0" if genuine[place] != "0" else "1"
        cases.append(octokit(body, genuine[:place] + other + genuine[place + 1 :]))
    assert on_node(cases) == [case.expected for case in cases]
    assert sum(case.expected for case in cases) == 1


def test_octokit_reads_the_body_as_text_where_we_take_its_bytes() -> None:
    # GitHub's deliveries are UTF-8; anything else verifies here under its own bytes.
    signed = scheme_of("github", "mysecret").sign(delivery(b"\xff"), NOW)
    assert scheme_of("github", "mysecret").verify(signed, NOW) == Verified(0)


def qstash_delivery(body: str, target: str = "/qstash", key: str = CURRENT_KEY) -> tuple[str, str]:
    """A token of ours, and the URL it is for."""
    scheme = QStash([key], public_url=PUBLIC_URL)
    plain = Signed(CIMultiDict(), body.encode(), target)
    return scheme.sign(plain, time.time()).headers["Upstash-Signature"], PUBLIC_URL + target


def qstash_cases() -> list[Case]:
    body = '{"hello":"w\u00f6rld"}'
    token, url = qstash_delivery(body)
    rotated, _ = qstash_delivery(body, key=NEXT_KEY)
    foreign, _ = qstash_delivery(body, key=STRANGERS_KEY)
    head, payload, signature = token.split(".")
    unsigned = base64.urlsafe_b64encode(b'{"alg":"none"}').rstrip(b"=").decode()
    variants = [
        *((token, body, url), (rotated, body, url), (foreign, body, url)),
        *((token, body + " ", url), (token, "", url), (token, body, url + "/other")),
        *((token, body, url + "?a=1"), ("", body, url), (f"{head}.{payload}.", body, url)),
        *((f"{unsigned}.{payload}.", body, url), (f"{head}.{payload}", body, url)),
        *((token[:-4], body, url), (token.upper(), body, url), (token + ".x", body, url)),
        *((f"{head}.{payload}.{signature[::-1]}", body, url),),
    ]
    for place in range(0, len(token), 5):
        other = "A" if token[place] != "A" else "B"
        variants.append((token[:place] + other + token[place + 1 :], body, url))
    cases = []
    for value, text, address in variants:
        signed = Signed(
            CIMultiDict({"Upstash-Signature": value}),
            text.encode(),
            address.removeprefix(PUBLIC_URL),
        )
        is_ours = isinstance(QSTASH.verify(signed, time.time()), Verified)
        given = {"signature": value, "body": text, "url": address}
        cases.append(Case("qstash", {"current": CURRENT_KEY, "next": NEXT_KEY, **given}, is_ours))
    assert sum(case.expected for case in cases) == 2
    return cases


@pytest.mark.external
def test_qstashs_receiver_on_node_agrees(on_node: Callable[[list[Case]], list[Any]]) -> None:
    cases = qstash_cases()
    assert on_node(cases) == [case.expected for case in cases]


def test_qstashs_receiver_in_python_agrees() -> None:
    receiver = qstash.Receiver(CURRENT_KEY, NEXT_KEY)
    for case in qstash_cases():
        given = {name: case.given[name] for name in ("signature", "body", "url")}
        try:
            receiver.verify(**given)
        except SignatureError:
            assert not case.expected, given
        else:
            assert case.expected, given
