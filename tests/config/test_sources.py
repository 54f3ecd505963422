"""Which sources the settings switch on, and what each of them verifies and looks for."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path
from typing import Any

import pytest
from multidict import CIMultiDict

from hookmill.config.identity import (
    Identity,
    identify_marble,
    identify_qstash,
    no_key,
)
from hookmill.config.settings import load_settings
from hookmill.config.sources import (
    Source,
    check_source,
    secrets_to_sign_with,
    sources_of,
    url_of,
)
from hookmill.errors import SettingsError
from hookmill.message import pack_headers
from hookmill.signatures import Refused, Scheme, Signed, Verified
from hookmill.signatures.marble import DEVELOPMENT_SECRET, marble_scheme
from hookmill.signatures.qstash import DEVELOPMENT_KEYS, QStash
from tests.support import CURRENT_KEY, MARBLE_SECRET, NEXT_KEY, signed_headers

NO_HEADERS = CIMultiDict[str]()
QSTASH_ID = CIMultiDict({"upstash-message-id": "msg_1"})
PLAIN = b'{"event":"post.updated","data":{"id":"post_1"}}'


def named_after(body: bytes, event_type: str = "") -> Identity:
    digest = hashlib.blake2b(body, digest_size=16).hexdigest()
    return Identity(f"hm_{digest}", event_type, id_is_signed=True)


# --- the sources that the settings switch on ---


def settings_of(
    monkeypatch: pytest.MonkeyPatch, folder: Path, toml: str = "", **variables: str
) -> Any:
    (folder / "hookmill.toml").write_text(toml)
    monkeypatch.chdir(folder)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return load_settings()


def test_without_keys_nothing_is_open(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert sources_of(settings_of(monkeypatch, tmp_path)) == []


@pytest.mark.parametrize(
    ("variables", "paths"),
    [
        ({"QSTASH_CURRENT_SIGNING_KEY": CURRENT_KEY}, {"qstash": "/qstash"}),
        ({"MARBLE_WEBHOOK_SECRET": MARBLE_SECRET}, {"marble": "/marble"}),
        (
            {"QSTASH_CURRENT_SIGNING_KEY": CURRENT_KEY, "MARBLE_WEBHOOK_SECRET": MARBLE_SECRET},
            {"qstash": "/qstash", "marble": "/marble"},
        ),
    ],
)
def test_a_key_in_the_environment_switches_its_source_on(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    variables: dict[str, str],
    paths: dict[str, str],
) -> None:
    sources = sources_of(settings_of(monkeypatch, tmp_path, **variables))
    assert {source.name: source.path for source in sources} == paths


def test_a_source_takes_what_the_settings_say(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    toml = '[sources.qstash]\npath = "/"\n[sources.marble]\npath = "/cms"\ntimestamped = true\n'
    settings = settings_of(
        monkeypatch,
        tmp_path,
        toml,
        QSTASH_CURRENT_SIGNING_KEY=CURRENT_KEY,
        QSTASH_NEXT_SIGNING_KEY=NEXT_KEY,
        MARBLE_WEBHOOK_SECRET=MARBLE_SECRET,
        HOOKMILL_PUBLIC_URL="https://app.example/hooks/",
        HOOKMILL_CLOCK_TOLERANCE="7",
    )
    qstash, marble = sources_of(settings)
    assert (qstash.path, qstash.identify) == ("/", identify_qstash)
    assert (marble.path, marble.identify) == ("/cms", identify_marble)
    assert qstash.key_of is marble.key_of is no_key

    def judge(source: Source, signer: Scheme, late_by: float = 0) -> str:
        headers = CIMultiDict(signed_headers(signer, b"", "/", now=1e9))
        verdict = source.scheme.verify(Signed(headers, b""), 1e9 + late_by)
        return verdict.code if isinstance(verdict, Refused) else "verified"

    signer = QStash([NEXT_KEY], public_url="https://app.example/hooks")
    assert judge(qstash, signer, 306) == "verified"
    assert judge(qstash, signer, 307) == "expired"
    assert judge(qstash, signer, -7) == "verified"
    assert judge(qstash, signer, -8) == "not_yet_valid"
    assert judge(qstash, QStash([NEXT_KEY], public_url="https://app.example")) == "wrong_url"
    assert judge(qstash, QStash(["sig_strange"])) == "signature_mismatch"

    assert judge(marble, marble_scheme([MARBLE_SECRET], with_time=True)) == "verified"
    assert judge(marble, marble_scheme([MARBLE_SECRET])) == "header_missing"
    assert judge(marble, marble_scheme(["strange"], with_time=True)) == "signature_mismatch"


def test_what_a_source_is_ordered_by_and_named_after_is_its_own_affair(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    settings = settings_of(
        monkeypatch,
        tmp_path,
        '[sources.qstash]\nid = "body"\n',
        QSTASH_CURRENT_SIGNING_KEY=CURRENT_KEY,
        MARBLE_WEBHOOK_SECRET=MARBLE_SECRET,
        HOOKMILL_SOURCES__marble__ordered_by="data.id",
    )
    qstash, marble = sources_of(settings)

    assert qstash.identify(QSTASH_ID, PLAIN) == named_after(PLAIN, "post.updated")
    assert qstash.key_of(PLAIN) == ""
    assert marble.identify(QSTASH_ID, PLAIN) == Identity("msg_1", "post.updated")
    assert marble.key_of(PLAIN) == "post_1"


@pytest.mark.parametrize(
    "variables",
    [
        {"QSTASH_CURRENT_SIGNING_KEY": "-----BEGIN PUBLIC KEY-----\nx\n-----END PUBLIC KEY-----"},
        {"QSTASH_CURRENT_SIGNING_KEY": "sig_\udcff"},
        {"MARBLE_WEBHOOK_SECRET": "hush\udcff"},
    ],
)
def test_a_source_without_a_usable_secret_does_not_start(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, variables: dict[str, str]
) -> None:
    with pytest.raises(SettingsError):
        sources_of(settings_of(monkeypatch, tmp_path, **variables))


# --- other senders -----------------------------------------------------------------------------


def test_a_table_switches_its_source_on_and_its_secret_is_required(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    table = '[sources.github]\n[sources.shop]\npreset = "stripe"\npath = "/pay"\n'
    with pytest.raises(SettingsError) as caught:
        sources_of(settings_of(monkeypatch, tmp_path, table))
    assert [fault.split(" is not set")[0] for fault in caught.value.faults] == [
        "sources.github: GITHUB_WEBHOOK_SECRET",
        "sources.shop: SHOP_WEBHOOK_SECRET",
    ]
    settings = settings_of(
        monkeypatch,
        tmp_path,
        table,
        GITHUB_WEBHOOK_SECRET="a secret of github",
        SHOP_WEBHOOK_SECRET="whsec_of_stripe",
    )
    assert [(source.name, source.path) for source in sources_of(settings)] == [
        ("github", "/github"),
        ("shop", "/pay"),
    ]


def test_a_message_is_named_after_its_bytes_where_the_table_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    settings = settings_of(
        monkeypatch,
        tmp_path,
        '[sources.github]\nid = "body"\n',
        GITHUB_WEBHOOK_SECRET="a secret of github",
    )
    (github,) = sources_of(settings)
    headers = CIMultiDict({"X-GitHub-Delivery": "d-1", "X-GitHub-Event": "push"})
    assert github.identify(headers, PLAIN) == named_after(PLAIN, "push")


def test_a_sender_that_signs_its_url_needs_to_know_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    table, secret = "[sources.square]\n", {"SQUARE_WEBHOOK_SECRET": "a secret of square"}
    with pytest.raises(SettingsError, match="it signs its URL: set HOOKMILL_PUBLIC_URL"):
        sources_of(settings_of(monkeypatch, tmp_path, table, **secret))
    public = {"HOOKMILL_PUBLIC_URL": "https://app.example/"}
    (square,) = sources_of(settings_of(monkeypatch, tmp_path, table, **secret, **public))
    assert square.url == "https://app.example/square"
    table += 'url = "https://other.example/hook?shop=1"\n'
    (square,) = sources_of(settings_of(monkeypatch, tmp_path, table, **secret))
    assert square.url == "https://other.example/hook?shop=1"


def test_qstashs_regions_have_keys_of_their_own(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("EU_CENTRAL_1_QSTASH_CURRENT_SIGNING_KEY", "sig_of_the_region")
    settings = settings_of(monkeypatch, tmp_path, QSTASH_CURRENT_SIGNING_KEY=CURRENT_KEY)
    (qstash,) = sources_of(settings)
    delivery = QStash(["sig_of_the_region"]).sign(Signed(CIMultiDict(), PLAIN), time.time())
    assert qstash.scheme.verify(delivery, time.time()) == Verified(1)
    assert qstash.scheme.labels == [
        "env:QSTASH_CURRENT_SIGNING_KEY",
        "env:EU_CENTRAL_1_QSTASH_CURRENT_SIGNING_KEY",
    ]


@pytest.mark.parametrize("public", [*DEVELOPMENT_KEYS, DEVELOPMENT_SECRET])
def test_a_secret_that_anyone_knows_is_refused_from_any_setting(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, public: str
) -> None:
    own = {"QSTASH_CURRENT_SIGNING_KEY": CURRENT_KEY, "GITHUB_WEBHOOK_SECRET": public}
    settings = settings_of(monkeypatch, tmp_path, "[sources.github]\n", **own)
    with pytest.raises(SettingsError, match="github: a secret is a public development key"):
        sources_of(settings)
    monkeypatch.setenv("HOOKMILL_DEVELOPMENT", "1")
    assert len(sources_of(settings_of(monkeypatch, tmp_path, "[sources.github]\n", **own))) == 2


def test_a_public_key_of_a_region_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("EU_CENTRAL_1_QSTASH_CURRENT_SIGNING_KEY", DEVELOPMENT_KEYS[0])
    settings = settings_of(monkeypatch, tmp_path, QSTASH_CURRENT_SIGNING_KEY=CURRENT_KEY)
    with pytest.raises(SettingsError, match="qstash: a secret is a public development key"):
        sources_of(settings)


# --- QStash's callbacks ---

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


# --- what a sender asks beside its deliveries ---


@pytest.mark.parametrize(
    ("table", "fault"),
    [
        ('[sources.meta]\nsecrets = "env:ASKED_SECRET"', "sources.meta: handshake: Meta asks with"),
        (
            '[sources.us]\nsecrets = "env:ASKED_SECRET"\npreset = "github"\nhandshake = "meta"',
            "sources.us: handshake: Meta asks with",
        ),
        (
            "[sources.us]\nsecrets = 'env:ASKED_SECRET'\npreset = 'strapi'\nhandshake = 'zoom'",
            "sources.us: handshake: the answer to Zoom is an HMAC, but the algorithm is token",
        ),
    ],
)
def test_a_source_that_could_not_answer_its_handshake_does_not_start(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, table: str, fault: str
) -> None:
    with pytest.raises(SettingsError) as caught:
        sources_of(settings_of(monkeypatch, tmp_path, table, ASKED_SECRET=MARBLE_SECRET))
    assert [each.startswith(fault) for each in caught.value.faults] == [True]


def test_a_source_knows_its_handshake_and_the_status_that_acknowledges(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    settings = settings_of(
        monkeypatch,
        tmp_path,
        '[sources.meta]\nsecrets = "env:ASKED_SECRET"\nverify_token = "env:ASKED_TOKEN"\n'
        'acknowledge = 204\n[sources.quiet]\npreset = "meta"\nhandshake = ""\n'
        'secrets = "env:ASKED_SECRET"\n',
        ASKED_SECRET=MARBLE_SECRET,
        ASKED_TOKEN="our-verify-token",
    )
    meta, quiet = sources_of(settings)
    assert (meta.handshake, meta.verify_token, meta.status) == ("meta", "our-verify-token", 204)
    assert (quiet.handshake, quiet.verify_token, quiet.status) == ("", "", 200)


@pytest.mark.parametrize("status", [100, 199, 300, 410, 500, 0, -200])
def test_what_is_accepted_is_acknowledged_with_success_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, status: int
) -> None:
    table = f'[sources.ghost]\nsecrets = "env:ASKED_SECRET"\nacknowledge = {status}\n'
    with pytest.raises(SettingsError, match="from 200 to 299"):
        settings_of(monkeypatch, tmp_path, table, ASKED_SECRET=MARBLE_SECRET)


def test_a_header_that_holds_the_secret_itself_is_named_so_that_it_is_not_kept(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    table = "[sources.gitlab-token]\n[sources.github]\n"
    secrets = dict.fromkeys(("GITLAB_TOKEN", "GITHUB"), "long enough a secret")
    variables = {f"{name}_WEBHOOK_SECRET": secret for name, secret in secrets.items()}
    gitlab, github = sources_of(settings_of(monkeypatch, tmp_path, table, **variables))
    assert (gitlab.secret_header, github.secret_header) == (b"x-gitlab-token", b"")
    sent = ((b"X-Gitlab-Token", b"long enough a secret"), (b"X-Gitlab-Event", b"Push Hook"))
    assert pack_headers(sent, gitlab.secret_header) == b"X-Gitlab-Event: Push Hook"


# --- what commands ask of one source ---


def test_the_url_a_sender_was_given_is_that_of_its_table_else_the_public_url_with_its_path(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    table = '[sources.github]\nurl = "https://other.example/hook"\n[sources.shop]\n'
    table += 'preset = "stripe"\npath = "/pay"\n'
    settings = settings_of(monkeypatch, tmp_path, table)
    assert url_of("github", settings) == "https://other.example/hook"
    assert url_of("shop", settings) == ""
    monkeypatch.setenv("HOOKMILL_PUBLIC_URL", "https://app.example/hooks/")
    settings = settings_of(monkeypatch, tmp_path, table)
    assert url_of("github", settings) == "https://other.example/hook"
    assert url_of("shop", settings) == "https://app.example/hooks/pay"
    assert url_of("marble", settings) == "https://app.example/hooks/marble"


@pytest.mark.parametrize(
    ("name", "public", "variable"),
    [
        ("qstash", [*DEVELOPMENT_KEYS], "QSTASH_CURRENT_SIGNING_KEY"),
        ("qstash-callbacks", [*DEVELOPMENT_KEYS], "QSTASH_CURRENT_SIGNING_KEY"),
        ("marble", [DEVELOPMENT_SECRET], "MARBLE_WEBHOOK_SECRET"),
    ],
)
def test_a_delivery_is_signed_with_a_public_key_only_where_none_is_set_and_it_is_allowed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, public: list[str], variable: str
) -> None:
    settings = settings_of(monkeypatch, tmp_path)
    found = secrets_to_sign_with(name, settings, allow_public=True)
    assert [secret.text for secret in found] == public
    with pytest.raises(SettingsError, match=f"{variable} is not set: there is nothing to sign"):
        secrets_to_sign_with(name, settings, allow_public=False)
    settings = settings_of(monkeypatch, tmp_path, **{variable: "a secret of our own"})
    for allow_public in (True, False):
        found = secrets_to_sign_with(name, settings, allow_public=allow_public)
        assert [secret.text for secret in found] == ["a secret of our own"]


def test_another_sender_has_no_public_key_to_sign_with(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    settings = settings_of(monkeypatch, tmp_path, "[sources.github]\n")
    with pytest.raises(SettingsError, match="GITHUB_WEBHOOK_SECRET is not set"):
        secrets_to_sign_with("github", settings, allow_public=True)


@pytest.mark.parametrize(
    ("table", "faults"),
    [
        ("[sources.github]\nsecrets = 'env:OURS'\n", []),
        ("[sources.github]\n", ["sources.github: GITHUB_WEBHOOK_SECRET is not set"]),
        (
            "[sources.square]\n",
            ["sources.square: it signs its URL", "sources.square: SQUARE_WEBHOOK_SECRET is not"],
        ),
        ("[sources.meta]\nsecrets = 'env:OURS'\n", ["sources.meta: handshake: Meta asks with"]),
        (
            "[sources.slack]\nsecrets = 'env:OURS'\nverify_token = 'env:THEIRS'\n",
            ["sources.slack: THEIRS is not set"],
        ),
        ("[sources.sns]\ntopics = 'orders'\n", ["sources.sns: a topic of an SNS source is no"]),
    ],
)
def test_a_check_of_a_source_finds_every_reason_why_a_receiver_does_not_start_with_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, table: str, faults: list[str]
) -> None:
    settings = settings_of(monkeypatch, tmp_path, table, OURS="a secret of our own")
    (name,) = settings.sources
    checked = check_source(name, settings)
    assert all(found.startswith(fault) for found, fault in zip(checked.faults, faults, strict=True))
    if faults:
        with pytest.raises(SettingsError):
            sources_of(settings)
    else:
        assert [secret.label for secret in checked.secrets] == ["env:OURS"]
        assert len(sources_of(settings)) == 1


def test_a_check_of_a_source_accepts_public_development_keys(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    settings = settings_of(
        monkeypatch, tmp_path, "[sources.github]\n", GITHUB_WEBHOOK_SECRET=DEVELOPMENT_SECRET
    )
    assert check_source("github", settings).faults == ()
