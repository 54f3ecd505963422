"""The source of QStash's callbacks: what opens it, and what it verifies and looks for."""

from __future__ import annotations

from pathlib import Path

import pytest
from multidict import CIMultiDict

from hookmill.config.identity import Identity
from hookmill.config.sources import sources_of
from hookmill.errors import SettingsError
from hookmill.signatures import Refused, Signed, Verified
from hookmill.signatures.qstash import QStash
from tests.config.deliveries import QSTASH_ID, named_after
from tests.config.support import settings_of
from tests.support import CURRENT_KEY, NEXT_KEY, signed_headers

CALLBACK = b'{"status":500,"retried":1,"sourceMessageId":"msg_0","sourceBody":"e30="}'
CALLBACKS = "[sources.qstash-callbacks]\n"


def test_nothing_but_their_table_opens_callbacks(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    keys = {"QSTASH_CURRENT_SIGNING_KEY": CURRENT_KEY, "QSTASH_NEXT_SIGNING_KEY": NEXT_KEY}
    (qstash,) = sources_of(settings_of(monkeypatch, tmp_path, **keys))
    assert qstash.name == "qstash"
    table = f'{CALLBACKS}[sources.outcomes]\npreset = "qstash-callbacks"\npath = "/o"\n'
    settings = settings_of(monkeypatch, tmp_path, table)
    assert {source.name: source.path for source in sources_of(settings)} == {
        "qstash": "/qstash",
        "qstash-callbacks": "/qstash-callbacks",
        "outcomes": "/o",
    }


def test_callbacks_are_verified_as_qstashs_messages_are_for_their_own_url(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("US_EAST_1_QSTASH_NEXT_SIGNING_KEY", "sig_of_the_region")
    settings = settings_of(
        monkeypatch,
        tmp_path,
        CALLBACKS,
        QSTASH_CURRENT_SIGNING_KEY=CURRENT_KEY,
        QSTASH_NEXT_SIGNING_KEY=NEXT_KEY,
        HOOKMILL_PUBLIC_URL="https://app.example",
        HOOKMILL_CLOCK_TOLERANCE="7",
    )
    qstash, callbacks = sources_of(settings)
    assert callbacks.scheme.labels == qstash.scheme.labels

    def judge(key: str, target: str, late_by: float = 0, body: bytes = CALLBACK) -> str:
        signer = QStash([key], public_url="https://app.example")
        headers = CIMultiDict(signed_headers(signer, CALLBACK, target, now=1e9))
        delivery = Signed(headers, body, "/qstash-callbacks")
        verdict = callbacks.scheme.verify(delivery, 1e9 + late_by)
        if isinstance(verdict, Verified):
            assert verdict.token is not None  # it is remembered: no replay under another ID
            return "verified"
        assert isinstance(verdict, Refused)
        return verdict.code

    for key in (CURRENT_KEY, NEXT_KEY, "sig_of_the_region"):
        assert judge(key, "/qstash-callbacks") == "verified"
    assert judge(CURRENT_KEY, "/qstash-callbacks", 306) == "verified"
    assert judge(CURRENT_KEY, "/qstash-callbacks", 307) == "expired"
    # A token that was made for a message is none for a callback.
    assert judge(CURRENT_KEY, "/qstash") == "wrong_url"
    assert judge("sig_strange", "/qstash-callbacks") == "signature_mismatch"
    assert judge(CURRENT_KEY, "/qstash-callbacks", body=b"{}") == "body_mismatch"


def test_callbacks_have_the_ordering_keys_of_their_messages(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    table = '[sources.qstash]\nsecrets = "env:OUR_KEY"\n'
    variables = {"OUR_KEY": "sig_of_ours", "THEIR_KEY": "sig_of_theirs"}
    *_, callbacks = sources_of(settings_of(monkeypatch, tmp_path, table + CALLBACKS, **variables))
    assert callbacks.scheme.labels == ["env:OUR_KEY"]
    own = f'{CALLBACKS}secrets = "env:THEIR_KEY"\n'
    *_, callbacks = sources_of(settings_of(monkeypatch, tmp_path, table + own))
    assert callbacks.scheme.labels == ["env:THEIR_KEY"]


@pytest.mark.parametrize(
    "messages",
    [
        "",
        # Its secrets are public, or belong to another sender.
        '[sources.qstash]\npreset = "sns"\ntopics = "arn:aws:sns:eu-west-1:1:orders"\n',
        '[sources.qstash]\npreset = "github"\nsecrets = "env:OUR_KEY"\n',
    ],
)
def test_without_a_key_of_qstash_callbacks_do_not_start(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, messages: str
) -> None:
    settings = settings_of(monkeypatch, tmp_path, messages + CALLBACKS, OUR_KEY="a secret of ours")
    with pytest.raises(SettingsError) as caught:
        sources_of(settings)
    assert caught.value.faults == (
        "sources.qstash-callbacks: QSTASH_CURRENT_SIGNING_KEY is not set: it signs callbacks too",
    )


@pytest.mark.parametrize(
    ("words", "identity"),
    [
        ("", Identity("msg_1", "delivery.attempt_failed")),
        ('id = "body"', named_after(CALLBACK, "delivery.attempt_failed")),
        (
            'id = ["{json:dlqId}", "{json:sourceMessageId}/{json:retried}"]',
            Identity("msg_0/1", "delivery.attempt_failed", id_is_signed=True),
        ),
    ],
)
def test_callbacks_are_named_and_ordered_as_their_table_says(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, words: str, identity: Identity
) -> None:
    table = f'{CALLBACKS}ordered_by = "sourceMessageId"\n{words}\n'
    key = {"QSTASH_CURRENT_SIGNING_KEY": CURRENT_KEY}
    _, callbacks = sources_of(settings_of(monkeypatch, tmp_path, table, **key))
    assert callbacks.identify(QSTASH_ID, CALLBACK) == identity
    assert callbacks.key_of(CALLBACK) == "msg_0"
    doubled = CIMultiDict([("Upstash-Message-Id", "a"), ("Upstash-Message-Id", "b")])
    assert isinstance(callbacks.identify(doubled, CALLBACK), Identity if words else Refused)
