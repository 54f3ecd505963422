"""Why a captured delivery verifies or does not: verdict, steps and remarks; no secret is shown."""

from __future__ import annotations

import base64
import hmac

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from multidict import CIMultiDict

from hookmill.config.identity import identify_by
from hookmill.debug.diagnose import verify
from hookmill.debug.hypotheses import Case
from hookmill.signatures import Secret, Signed
from hookmill.signatures.presets import PRESETS
from hookmill.signatures.spec_verifier import SpecVerifier
from tests.debug.judging import (
    BODY,
    KEY,
    NOW,
    SECRET,
    URL,
    WHSEC,
    from_qstash,
    judged,
    qstash,
    signed,
)


def test_a_genuine_delivery_is_valid_and_each_step_is_shown() -> None:
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


def test_a_url_that_is_not_known_is_asked_for() -> None:
    report = judged("square", signed("square", SECRET)._replace(url=""), SECRET)
    assert report.code == "url_unknown"
    assert report.remarks[0] == "give the URL that the sender was given with --url"


def test_a_secret_that_is_no_key_cannot_judge_yet_the_mistake_is_named() -> None:
    report = judged("svix", signed("svix", WHSEC), f'"{WHSEC}"')
    assert (report.verdict, report.code, report.exit_status) == ("unusable", "secret_unusable", 2)
    assert report.it_would_match_if[0] == "the secret had no quotation marks around it"


def test_each_claim_of_a_token_is_shown() -> None:
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


def test_an_expired_token_is_reported_as_genuine_and_a_wrong_body_is_reported_too() -> None:
    report = qstash(from_qstash(), SECRET, now=NOW + 1000)
    assert report.code == "expired"
    assert "apart from its time it matches" in report.remarks[0]
    report = qstash(from_qstash()._replace(body=BODY + b"\n"), SECRET, now=NOW + 1000)
    assert report.code == "expired"
    assert f"claim body: not the hash of these {len(BODY) + 1} bytes" in report.steps
    assert "no newline at its end" in report.it_would_match_if[0]


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
    # A user may show the explanation to others. It must not help them to forge a delivery.
    digest = hmac.digest(SECRET.encode(), BODY, "sha256")
    headers = CIMultiDict({"X-Hub-Signature-256": "sha256=" + "0" * 64})
    shown = repr(judged("github", Signed(headers, BODY), SECRET))
    assert digest.hex() not in shown
    assert base64.b64encode(digest).decode() not in shown
