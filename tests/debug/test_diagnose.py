"""Why a captured delivery verifies or does not: each usual mistake is found, no secret is shown."""

from __future__ import annotations

import base64
import hmac
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from multidict import CIMultiDict

from hookmill.config.identity import identify_by
from hookmill.debug.diagnose import Report, verify
from hookmill.debug.hypotheses import Case
from hookmill.signatures import Secret, Signed
from hookmill.signatures.marble import timestamped
from hookmill.signatures.presets import PRESETS
from hookmill.signatures.qstash import QStash
from hookmill.signatures.spec import SignatureSpec
from hookmill.signatures.spec_verifier import SpecVerifier

NOW = 1_779_460_951.0
SECRET = "a-secret-of-some-length"
KEY = b"~~~>>>???0123456789abcde"  # its base64 has a + and a /
WHSEC = "whsec_" + base64.b64encode(KEY).decode()
BODY = b'{"a":1,"b":[2,3],"c":"\xc3\xa9/"}'
URL = "https://app.example/hook"


def signed(name: str, secret: str, body: bytes = BODY, url: str = URL, **words: Any) -> Signed:
    """What the sender makes."""
    spec = msgspec.structs.replace(PRESETS[name].spec, **words)
    return SpecVerifier(spec, [secret]).sign(Signed(CIMultiDict(), body, "/hook", url=url), NOW)


def judged(
    name: str, delivery: Signed, *secrets: str | Secret, now: float = NOW, **words: Any
) -> Report:
    spec = msgspec.structs.replace(PRESETS[name].spec, **words)
    given = tuple(Secret(one) if isinstance(one, str) else one for one in secrets)
    return verify(Case(name, name, spec, given, delivery), now)


def qstash(delivery: Signed, *secrets: str, now: float = NOW) -> Report:
    return verify(Case("qstash", "qstash", None, tuple(map(Secret, secrets)), delivery), now)


def from_qstash(body: bytes = BODY) -> Signed:
    delivery = Signed(CIMultiDict(), body, "/hook", url=URL)
    return QStash([SECRET], public_url="https://app.example").sign(delivery, NOW)


def spelled(header: str, change: Callable[[str], str]) -> Callable[[Signed], Signed]:
    """Change how a header of a delivery is written."""

    def changed(delivery: Signed) -> Signed:
        headers = CIMultiDict(delivery.headers)
        headers[header] = change(headers[header])
        return delivery._replace(headers=headers)

    return changed


# --- the verdict and the steps ---


def test_a_genuine_delivery_is_valid_and_each_step_to_it_is_told() -> None:
    delivery = signed("stripe", SECRET)
    case = Case(
        "shop",
        "stripe",
        PRESETS["stripe"].spec,
        (Secret("another-secret", "env:OLD"), Secret(SECRET, "env:NEW")),
        delivery,
    )
    report = verify(case, NOW + 7, identify_by(PRESETS["stripe"].spec))
    whole = b"1779460951." + BODY
    assert (report.verdict, report.exit_status) == ("valid", 0)
    assert report.lines == [
        "shop: valid",
        "  Stripe-Signature: 1 signature(s) to compare with",
        "  signed time: 1779460951 (Unix seconds), 7 s old; 300 s are tolerated",
        f"  signed content, {{timestamp}}.{{body}}: {len(whole)} bytes, {whole!r}",
        "  secret 1 of 2 does not match env:OLD",
        "  secret 2 of 2 matches env:NEW",
        "  no message ID; no type",
    ]


def test_names_are_told_with_whether_they_are_signed() -> None:
    spec = PRESETS["github"].spec
    headers = CIMultiDict({"X-GitHub-Event": "push", "X-GitHub-Delivery": "7"})
    delivery = SpecVerifier(spec, [SECRET]).sign(Signed(headers, b"{}"), NOW)
    report = verify(Case("g", "github", spec, (Secret(SECRET),), delivery), NOW, identify_by(spec))
    assert report.remarks == ("message ID '7', not signed; event type 'push'",)


def test_one_that_is_only_too_old_is_refused_and_said_to_be_genuine() -> None:
    report = judged("slack", signed("slack", SECRET), SECRET, now=NOW + 1000)
    assert (report.code, report.exit_status) == ("timestamp_too_far", 1)
    assert report.detail == "the signed time is 1000 s old"
    assert any("secret 1 of 1 matches" in step for step in report.steps)
    assert "apart from its time it matches" in report.remarks[0]
    assert report.it_would_match_if == ()


def test_one_that_is_too_old_and_does_not_match_is_explained_as_well() -> None:
    report = judged("slack", signed("slack", SECRET), f" {SECRET}", now=NOW + 1000)
    assert report.code == "timestamp_too_far"
    assert "apart from its time it does not match either" in report.remarks[0]
    assert report.it_would_match_if == ("the secret had no white space around it",)


def test_a_foreign_delivery_matches_under_no_mistake_and_that_is_said() -> None:
    report = judged("github", signed("github", "somebody-elses-secret"), SECRET)
    assert (report.code, report.it_would_match_if) == ("signature_mismatch", ())
    assert "none of the usual mistakes explains it" in report.remarks[0]


def test_a_secret_whose_window_has_ended_is_named() -> None:
    ended = Secret(SECRET, "env:OLD", ends=NOW)
    report = judged("github", signed("github", SECRET), ended)
    assert report.it_would_match_if == (
        "secret 1 was valid at that time: its time has ended or not begun",
    )


# --- each usual mistake ---

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


def test_a_url_that_is_not_known_is_asked_for() -> None:
    report = judged("square", signed("square", SECRET)._replace(url=""), SECRET)
    assert report.code == "url_unknown"
    assert report.remarks[0] == "give the URL that the sender was given with --url"


def test_a_secret_that_is_no_key_cannot_judge_yet_the_mistake_is_named() -> None:
    report = judged("svix", signed("svix", WHSEC), f'"{WHSEC}"')
    assert (report.verdict, report.code, report.exit_status) == ("unusable", "secret_unusable", 2)
    assert report.it_would_match_if[0] == "the secret had no quotation marks around it"


# --- QStash ---


def test_each_claim_of_a_token_is_told() -> None:
    report = qstash(from_qstash(), "another-key", SECRET, now=NOW + 10)
    assert report.verdict == "valid"
    assert report.steps[1:] == (
        "key 2 of 2 made its signature",
        "claim iss: 'Upstash', as it should be",
        f"claim sub: '{URL}', the URL {URL}",
        "claim exp: 1779461251, expires in 290 s; 0 s are tolerated",
        "claims nbf and iat: 1779460951 and 1779460951, began 10 s ago; 0 s are tolerated",
        f"claim body: the hash of these {len(BODY)} bytes",
    )


def test_an_expired_token_is_said_to_be_genuine_and_a_wrong_body_beside_it_is_told() -> None:
    report = qstash(from_qstash(), SECRET, now=NOW + 1000)
    assert report.code == "expired"
    assert "apart from its time it matches" in report.remarks[0]
    report = qstash(from_qstash()._replace(body=BODY + b"\n"), SECRET, now=NOW + 1000)
    assert report.code == "expired"
    assert f"claim body: not the hash of these {len(BODY) + 1} bytes" in report.steps
    assert "no newline at its end" in report.it_would_match_if[0]


def test_a_key_that_was_spelled_otherwise_is_recognised_for_tokens_too() -> None:
    report = qstash(from_qstash(), f" '{SECRET}'")
    assert report.code == "signature_mismatch"
    assert report.it_would_match_if == ("the secret had no quotation marks around it",)


# --- no secret is shown ---


@pytest.mark.parametrize("name", [*PRESETS, "qstash"])
@given(data=st.data())
@settings(max_examples=8, deadline=None)
def test_any_delivery_ends_in_a_verdict_that_shows_no_secret(
    name: str, data: st.DataObject
) -> None:
    spec = None if name == "qstash" else PRESETS[name].spec
    raw = data.draw(st.binary(min_size=12, max_size=40), "raw")
    form = data.draw(st.sampled_from(["base64", "whsec", "hex", "text"]), "form")
    secret = {
        "base64": base64.b64encode(raw).decode(),
        "whsec": f"whsec_{base64.b64encode(raw).decode()}",
        "hex": raw.hex(),
        "text": f" Sé'\"{raw.hex()}\n\udcff",
    }[form]
    name_of_header = spec.signature.partition(":")[2] if spec else "Upstash-Signature"
    text = st.text(max_size=30) | st.sampled_from([secret, f"x{secret}", "v1=a,t=1"])
    headers = CIMultiDict(
        {
            name_of_header.replace(".", "-"): data.draw(text, "signature"),
            "Content-Type": data.draw(text, "type"),
        }
    )
    if spec and spec.timestamp.startswith("header:"):
        headers[spec.timestamp[7:]] = data.draw(st.sampled_from([str(int(NOW)), "1"]) | text)
    held = secret.encode("utf-8", "surrogateescape")
    body = data.draw(st.binary() | st.sampled_from([BODY, held, b'{"a":"%b"}' % held]), "body")
    delivery = Signed(headers, body, "/hook", url=data.draw(st.sampled_from(["", URL]), "url"))

    report = verify(Case(name, name, spec, (Secret(secret),), delivery), NOW)

    shown = "\n".join(report.lines)
    assert msgspec.json.decode(msgspec.json.encode(report))["verdict"] == report.verdict
    hidden = {secret, secret.strip(), secret.removeprefix("whsec_"), raw.hex(), raw.hex().upper()}
    hidden |= {base64.b64encode(raw).decode().rstrip("=")}
    hidden |= {base64.urlsafe_b64encode(raw).decode().rstrip("=")}
    for spelling in hidden:
        assert spelling not in shown


def test_a_token_that_is_the_secret_itself_is_not_shown() -> None:
    headers = CIMultiDict({"X-Gitlab-Token": SECRET})
    report = judged("gitlab-token", Signed(headers, SECRET.encode()), SECRET)
    assert report.verdict == "valid"
    assert SECRET not in repr(report)
    # Where it stands in what is signed, the excerpt is left out.
    delivery = signed("github", SECRET, b"x" * 55 + SECRET.encode() + b"y" * 100)
    report = judged("github", delivery, SECRET)
    assert SECRET[:8] not in repr(report)
    assert "signed content, {body}: 178 bytes, not shown: it holds a secret" in report.steps


@pytest.mark.parametrize("secret", [KEY.hex(), WHSEC, base64.b64encode(KEY).decode()])
@pytest.mark.parametrize(
    "spelling", [KEY, KEY.hex().encode(), KEY.hex().upper().encode(), base64.b64encode(KEY)]
)
def test_neither_is_what_the_secret_decodes_to(secret: str, spelling: bytes) -> None:
    body = b'{"id":"%b","type":"x"}' % spelling
    spec = PRESETS["vercel"].spec
    delivery = signed("vercel", secret, body)
    case = Case("vercel", "vercel", spec, (Secret(secret),), delivery)
    report = verify(case, NOW, identify_by(spec))
    assert report.verdict == "valid"
    assert "message ID '[secret]" in report.remarks[0]
    assert spelling.decode() not in repr(report)


def test_what_is_shown_cannot_move_the_cursor() -> None:
    delivery = signed("stripe", SECRET, b'{"id":"\\u001b[2J","type":"x"}')
    spec = PRESETS["stripe"].spec
    case = Case("\x1b[2J", "stripe", spec, (Secret(SECRET),), delivery)
    report = verify(case, NOW, identify_by(spec))
    assert all(line.isprintable() for line in report.lines)


def test_the_signature_that_would_be_right_is_not_shown() -> None:
    # Whoever passes the explanation on must not pass on a way to forge.
    digest = hmac.digest(SECRET.encode(), BODY, "sha256")
    headers = CIMultiDict({"X-Hub-Signature-256": "sha256=" + "0" * 64})
    shown = repr(judged("github", Signed(headers, BODY), SECRET))
    assert digest.hex() not in shown
    assert base64.b64encode(digest).decode() not in shown
