"""What is kept of a refused delivery explains it, and shows nothing that could be used."""

from __future__ import annotations

import base64
import json
import time
from typing import Any

import pytest
from multidict import CIMultiDict
from pydantic import SecretStr

from hookmill.config.settings import Settings
from hookmill.config.source_options import SourceOptions
from hookmill.config.sources import Source, sources_of
from hookmill.debug.refusals import MOST_BODY, MOST_HEADERS, Verdict, kept_of
from hookmill.signatures import Refused, Signed
from hookmill.stream.refused import RefusedDelivery
from tests.support import CURRENT_KEY

SECRET = "correct horse battery"
BODY = b'{"action":"opened","email":"ada@example.com"}'


@pytest.fixture(autouse=True)
def _secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_SECRET", SECRET)


def source(**table: Any) -> Source:
    given = {"preset": "github", "secrets": ({"env": "SHOP_SECRET"},), **table}
    (made,) = sources_of(Settings(sources={"shop": SourceOptions.model_validate(given)}))
    return made


def signed(one: Source, body: bytes = BODY, now: float | None = None) -> Signed:
    headers = CIMultiDict({"Content-Type": "application/json", "X-GitHub-Event": "push"})
    headers["X-GitHub-Delivery"] = "1"
    sign_at = time.time() if now is None else now
    return one.scheme.sign(Signed(headers, body, "/shop?key=a&b", "POST", one.url), sign_at)


def with_header(delivery: Signed, name: str, value: str) -> Signed:
    headers = CIMultiDict(delivery.headers)
    headers[name] = value
    return delivery._replace(headers=headers)


def kept(one: Source, delivery: Signed) -> RefusedDelivery:
    verdict = one.scheme.verify(delivery, time.time())
    assert isinstance(verdict, Refused)
    raw = tuple((k.encode(), v.encode()) for k, v in delivery.headers.items())
    refusal = Verdict(401, verdict.code, verdict.detail, verdict.cause)
    return kept_of(one, delivery, raw, refusal, time.time(), 3.0)


def test_it_says_what_would_have_matched() -> None:
    one = source()
    found = kept(one, signed(one)._replace(body=BODY + b"\n"))
    assert (found.source, found.status, found.code) == ("shop", 401, "signature_mismatch")
    assert found.hints == ("the body had no newline at its end: an editor or `echo` adds one",)
    assert "secret 1 of 1 does not match env:SHOP_SECRET" in found.explanation
    assert found.body == BODY + b"\n"
    assert found.size == len(BODY) + 1


def test_nobody_can_send_it_again_with_what_is_kept() -> None:
    one = source()
    delivery = signed(one)
    signature = delivery.headers["X-Hub-Signature-256"].removeprefix("sha256=")
    found = kept(one, delivery._replace(body=BODY + b"\n"))
    assert b"X-Hub-Signature-256: sha256=" in found.header_block
    assert f"{signature[:4]}...(64 characters)".encode() in found.header_block
    assert signature[5:] not in str(found)
    assert found.target == "/shop?key=...&b"


def test_a_signature_that_another_sender_made_is_shortened_too() -> None:
    one = source()
    token = ".".join(base64.urlsafe_b64encode(bytes(range(n, n + 30))).decode() for n in (1, 2, 3))
    headers = CIMultiDict({"Upstash-Signature": token, "X-Twitch-HMAC": "f" * 32})
    found = kept(one, Signed(headers, BODY, "/shop"))
    assert token[10:30] not in str(found.header_block)
    assert b"f" * 13 not in found.header_block


def test_a_signature_in_the_body_is_hidden() -> None:
    one = source(preset=None, signature="json:sig", content="{json:action}", unsigned_body=True)
    body = json.dumps({"action": "a", "sig": "0" * 64}).encode()
    assert kept(one, Signed(CIMultiDict(), body, "/shop")).body == (
        b'{"action": "a", "sig": "[redacted]"}'
    )


def test_credentials_and_secrets_are_not_kept_wherever_they_stand() -> None:
    one = source()
    spelt = base64.b64encode(SECRET.encode()).decode().rstrip("=")
    headers = CIMultiDict({"Authorization": "Bearer abc", "Cookie": "a", "X-Note": SECRET})
    body = json.dumps({"a": SECRET, "b": spelt}).encode()
    found = kept(one, Signed(headers, body, "/shop"))
    assert SECRET not in str(found)
    assert spelt not in str(found)
    assert b"Bearer" not in found.header_block
    assert b"Cookie" not in found.header_block


def test_a_token_is_not_kept_although_it_is_wrong() -> None:
    one = source(preset="gitlab-token")
    found = kept(one, Signed(CIMultiDict({"X-Gitlab-Token": "almost the secret"}), BODY, "/shop"))
    assert "almost" not in str(found)


def test_redacted_fields_are_kept_nowhere() -> None:
    one = source(redact=["email", "header:X-Customer"])
    delivery = signed(one, BODY[:-1] + b',"a":"' + b"x" * MOST_BODY + b'"}')
    delivery = with_header(delivery, "X-Customer", "ada@example.com")
    for body in (delivery.body + b"\n", BODY + b"\n", BODY[:-1]):
        found = kept(one, delivery._replace(body=body))
        assert "ada@" not in str(found)


def test_what_is_large_is_cut_and_mistakes_are_not_looked_for_in_it() -> None:
    one = source()
    delivery = signed(one, b"x" * (MOST_BODY + 1))
    delivery = with_header(delivery, "X-Long", "y" * MOST_HEADERS)
    found = kept(one, delivery._replace(body=delivery.body + b"\n"))
    assert len(found.body) == MOST_BODY
    assert found.size == MOST_BODY + 2
    assert len(found.header_block) == MOST_HEADERS
    assert found.hints == ()
    assert "no usual mistakes were looked for" in found.explanation[-1]


def test_a_genuine_delivery_that_came_late_is_explained_by_clocks() -> None:
    one = source(preset="stripe")
    found = kept(one, signed(one, b'{"id":"evt_1","type":"a"}', time.time() - 3600))
    assert found.code == "timestamp_too_far"
    assert "the clock of its sender or of this receiver is wrong" in found.explanation[-1]
    assert "--now" not in str(found)


def test_a_delivery_of_qstash_is_explained_without_its_keys() -> None:
    (one,) = sources_of(Settings(qstash_current_signing_key=SecretStr(CURRENT_KEY)))
    found = kept(one, one.scheme.sign(Signed(CIMultiDict(), BODY, "/qstash"), time.time())._replace(
        body=b"other"
    ))  # fmt: skip
    assert found.code == "body_mismatch"
    assert "claim body: not the hash of these 5 bytes" in found.explanation
    assert CURRENT_KEY not in str(found)


def test_what_is_signed_with_a_certificate_is_kept_without_an_explanation() -> None:
    table = {"topics": ["arn:aws:sns:eu-west-1:123456789012:t"]}
    (one,) = sources_of(Settings(sources={"sns": SourceOptions.model_validate(table)}))
    body = b'{"Type":"Notification","Signature":"c2ln"}'
    delivery = Signed(CIMultiDict({"Content-Type": "text/plain"}), body, "/sns")
    found = kept_of(one, delivery, (), Verdict(401, "a", "b"), 0.0, 3.0)
    assert found.body == b'{"Type":"Notification","Signature":"[redacted]"}'
    assert found.explanation[0].startswith("signed with a certificate")


def test_a_delivery_that_fits_nothing_says_so() -> None:
    found = kept(source(), Signed(CIMultiDict(), b"", "/"))
    assert found.code == "header_missing"
    assert found.explanation[-1].startswith("none of the usual mistakes explains it")
