"""Each usual mistake in verifying a delivery is recognised, and named in the report."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from multidict import CIMultiDict

from hookmill.debug.diagnose import verify
from hookmill.debug.hypotheses import Case
from hookmill.signatures import Secret, Signed
from hookmill.signatures.marble import timestamped
from hookmill.signatures.presets import PRESETS
from hookmill.signatures.spec import SignatureSpec
from hookmill.signatures.spec_verifier import SpecVerifier
from tests.debug.judging import (
    BODY,
    NOW,
    SECRET,
    URL,
    WHSEC,
    from_qstash,
    judged,
    qstash,
    signed,
    spelled,
)

BODIES: list[tuple[str, bytes, bytes]] = [
    # what is said, what was signed, what was captured
    ("had no newline at its end", BODY, BODY + b"\n"),
    ("had no newline at its end", BODY, BODY + b"\r\n"),
    ("had a newline at its end", BODY + b"\n", BODY),
    ("had CR and LF at its end", BODY + b"\r\n", BODY),
    ("lines ended with LF, not with CR and LF", b"a\nb\nc", b"a\r\nb\r\nc"),
    ("lines ended with CR and LF, not with LF", b"a\r\nb\r\nc", b"a\nb\nc"),
    ("no byte order mark", BODY, b"\xef\xbb\xbf" + BODY),
    ("compact JSON: it was parsed", b'{"a":1.0,"b":[2]}', b'{"a": 1.0, "b": [2]}'),
    ("spaced JSON: it was parsed", b'{"a": 1.0, "b": [2]}', b'{"a":1.0,"b":[2]}'),
    ("indented JSON: it was parsed", b'{\n  "a": 1\n}', b'{"a":1}'),
    ("compact JSON with \\u escapes", b'{"a":"\\u00e9"}', '{"a":"é"}'.encode()),
    ("spaced JSON without \\u escapes", '{"a": "é"}'.encode(), b'{"a":"\\u00e9"}'),
    ("with slashes as \\/", b'{"a":"b\\/c"}', b'{"a":"b/c"}'),
    ("the body was empty", b"", b"{}"),
]


@pytest.mark.parametrize(("says", "sent", "captured"), BODIES)
@pytest.mark.parametrize("name", ["github", "stripe", "qstash"])
def test_a_body_that_was_changed_on_its_way_is_recognised(
    name: str, says: str, sent: bytes, captured: bytes
) -> None:
    if name == "qstash":
        report = qstash(from_qstash(sent)._replace(body=captured), SECRET)
        assert report.code == "body_mismatch"
    else:
        report = judged(name, signed(name, SECRET, sent)._replace(body=captured), SECRET)
        assert report.code == "signature_mismatch"
    # In the report an escape's backslash stands as it is.
    assert any(says in hint for hint in report.it_would_match_if), report


HEX = SECRET.encode().hex()


SECRETS: list[tuple[str, str, str, str]] = [
    # what is said, the sender, the sender's secret, the one that was given
    ("no white space around it", "github", SECRET, f"{SECRET} "),
    ("no white space around it", "svix", WHSEC, f"\t{WHSEC}\n"),
    ("no quotation marks around it", "github", SECRET, f'"{SECRET}"'),
    ("no quotation marks around it", "svix", WHSEC, f"'{WHSEC}'"),
    ("a newline at its end", "github", f"{SECRET}\n", SECRET),
    ("no sha256= or similar before it", "github", SECRET, f"sha256={SECRET}"),
    ("the = at its end that base64 needs", "github", "MDEyMzQ1Ng==", "MDEyMzQ1Ng"),
    ("text without whsec_", "stripe", SECRET, f"whsec_{SECRET}"),
    ("text with whsec_ before it", "stripe", f"whsec_{SECRET}", SECRET),
]


@pytest.mark.parametrize(("says", "name", "right", "wrong"), SECRETS)
def test_a_secret_that_was_spelled_otherwise_is_recognised(
    says: str, name: str, right: str, wrong: str
) -> None:
    report = judged(name, signed(name, right), wrong)
    assert report.exit_status > 0
    assert any(says in hint for hint in report.it_would_match_if), report


@pytest.mark.parametrize(
    ("says", "name", "secret", "words"),
    [
        ("what the secret's base64 decodes to (after whsec_)", "stripe", WHSEC,
         {"key": "base64", "key_prefix": "whsec_"}),
        ("text as it stands", "svix", WHSEC, {"key": "text", "key_prefix": ""}),
        ("what the secret's hex digits decode to", "github", HEX, {"key": "hex"}),
        ("what the secret's base64 decodes to", "github", "MDEyMzQ1Njc4OWFi", {"key": "base64"}),
        ("algorithm was HMAC-SHA1, not HMAC-SHA256", "github", SECRET, {"algorithm": "hmac-sha1"}),
        ("algorithm was HMAC-SHA512", "stripe", SECRET, {"algorithm": "hmac-sha512"}),
        ("the signature was in base64, not in hex", "github", SECRET, {"encoding": "base64"}),
        ("HMAC-SHA1, not HMAC-SHA256 and the signature was in base64", "github", SECRET,
         {"algorithm": "hmac-sha1", "encoding": "base64"}),
        ("only the body was signed", "ghost", SECRET,
         {"content": "{body}", "timestamp": ""}),
    ],
)  # fmt: skip
def test_another_way_of_signing_is_recognised(
    says: str, name: str, secret: str, words: dict[str, Any]
) -> None:
    report = judged(name, signed(name, secret, **words), secret)
    assert report.verdict == "refused"
    assert any(says in hint for hint in report.it_would_match_if), report


@pytest.mark.parametrize("with_time", [False, True])
def test_the_other_form_of_marble_is_recognised(with_time: bool) -> None:
    forms: tuple[SignatureSpec, SignatureSpec] = (PRESETS["marble"].spec, timestamped())
    made = SpecVerifier(forms[with_time], [SECRET]).sign(Signed(CIMultiDict(), BODY), NOW)
    headers = CIMultiDict({"x-marble-timestamp": str(int(NOW)), **made.headers})
    case = Case(
        "marble", "marble", forms[not with_time], (Secret(SECRET),), made._replace(headers=headers)
    )
    (hint,) = verify(case, NOW).it_would_match_if
    assert hint.startswith(
        "the source had the timestamped form" if with_time else "the source had the plain form"
    )


@pytest.mark.parametrize(
    ("says", "name", "change"),
    [
        ("had sha256= before the signature", "github",
         spelled("X-Hub-Signature-256", lambda v: v.removeprefix("sha256="))),
        ("had v1= before the signature", "stripe",
         spelled("Stripe-Signature", lambda v: v.replace("v1=", ""))),
        ("lower-case hex", "github",
         spelled("X-Hub-Signature-256", lambda v: "sha256=" + v[7:].upper())),
        ("lower-case hex", "linear", spelled("Linear-Signature", str.upper)),
        ("no white space or quotation marks", "linear",
         spelled("Linear-Signature", lambda v: f'"{v}"')),
        ("had nothing before the signature, not sha256=", "linear",
         spelled("Linear-Signature", lambda v: f"sha256={v}")),
        ("the = at its end", "shopify",
         spelled("X-Shopify-Hmac-Sha256", lambda v: v.rstrip("="))),
    ],
)  # fmt: skip
def test_a_signature_that_was_written_otherwise_is_recognised(
    says: str, name: str, change: Callable[[Signed], Signed]
) -> None:
    report = judged(name, change(signed(name, SECRET)), SECRET)
    assert report.verdict == "refused"
    assert any(says in hint for hint in report.it_would_match_if), report


@pytest.mark.parametrize("wrong", ["HTTP_X_HUB_SIGNATURE_256", "Hub-Signature-256"])
def test_a_header_that_was_renamed_is_recognised(wrong: str) -> None:
    delivery = signed("github", SECRET)
    renamed = CIMultiDict({wrong: delivery.headers["X-Hub-Signature-256"]})
    report = judged("github", delivery._replace(headers=renamed), SECRET)
    assert report.code == "header_missing"
    assert report.it_would_match_if == (
        f"a header had the name with which it was sent: X-Hub-Signature-256, not {wrong}",
    )


@pytest.mark.parametrize(
    "given",
    [
        "http://app.example/hook",
        "https://app.example/hook/",
        "https://app.example:443/hook",
        "https://app.example/hook?a=1",
        "http://app.example:443/hook/?a=1",
    ],
)
@pytest.mark.parametrize("name", ["square", "hubspot", "twilio", "qstash"])
def test_another_spelling_of_the_url_is_recognised(name: str, given: str) -> None:
    target = given.partition("example")[2].removeprefix(":443")
    if name == "qstash":
        report = qstash(from_qstash()._replace(url=given, target=target), SECRET)
    else:
        body = b"a=1&b=2" if name == "twilio" else BODY
        delivery = signed(name, SECRET, body)
        report = judged(name, delivery._replace(url=given), SECRET)
    if name == "twilio" and given == "https://app.example:443/hook":
        assert report.verdict == "valid"  # it signs now with, now without the port
        return
    assert report.verdict == "refused"
    assert f"the URL was {URL}" in report.it_would_match_if


def test_another_method_and_another_sender_are_recognised() -> None:
    report = judged("hubspot", signed("hubspot", SECRET)._replace(method="GET"), SECRET)
    assert report.it_would_match_if == ("the method was POST, not GET",)
    report = judged("github", signed("stripe", SECRET), SECRET)
    assert report.it_would_match_if == ("the sender was stripe",)
    report = judged("github", from_qstash(), SECRET)
    assert report.it_would_match_if == ("the sender was qstash",)


def test_two_mistakes_at_once_are_recognised() -> None:
    delivery = signed("github", SECRET)._replace(body=BODY + b"\n")
    (hint,) = judged("github", delivery, f'"{SECRET}"').it_would_match_if
    assert "no newline at its end" in hint
    assert "; and the secret had no quotation marks around it" in hint


def test_a_secret_whose_window_has_ended_is_named() -> None:
    ended = Secret(SECRET, "env:OLD", ends=NOW)
    report = judged("github", signed("github", SECRET), ended)
    assert report.it_would_match_if == (
        "secret 1 was valid at that time: its time has ended or not begun",
    )


def test_a_key_that_was_spelled_otherwise_is_recognised_for_tokens_too() -> None:
    report = qstash(from_qstash(), f" '{SECRET}'")
    assert report.code == "signature_mismatch"
    assert report.it_would_match_if == ("the secret had no quotation marks around it",)
