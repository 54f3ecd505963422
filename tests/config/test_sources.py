"""Which sources the settings switch on, and what each of them verifies and looks for."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest
from multidict import CIMultiDict

from hookmill.config.identity import Identity, identify_marble, identify_qstash, no_key
from hookmill.config.sources import Source, sources_of
from hookmill.errors import SettingsError
from hookmill.message import pack_headers
from hookmill.signatures import Refused, Scheme, Signed, Verified
from hookmill.signatures.marble import DEVELOPMENT_SECRET, marble_scheme
from hookmill.signatures.qstash import DEVELOPMENT_KEYS, PUBLIC_KEYS, QStash
from tests.config.deliveries import QSTASH_ID, named_after
from tests.config.support import settings_of
from tests.support import CURRENT_KEY, MARBLE_SECRET, NEXT_KEY, signed_headers

PLAIN = b'{"event":"post.updated","data":{"id":"post_1"}}'


# --- the sources that the settings switch on ---


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


@pytest.mark.parametrize("public", sorted({*PUBLIC_KEYS, DEVELOPMENT_SECRET}))
def test_a_secret_that_anyone_knows_is_refused_from_any_setting(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, public: str
) -> None:
    own = {"QSTASH_CURRENT_SIGNING_KEY": CURRENT_KEY, "GITHUB_WEBHOOK_SECRET": public}
    settings = settings_of(monkeypatch, tmp_path, "[sources.github]\n", **own)
    with pytest.raises(SettingsError, match="github: a secret is a public development key"):
        sources_of(settings)
    own["HOOKMILL_DEVELOPMENT"] = "1"
    for host in ("127.0.0.1", "::1", "localhost", "127.3.2.1"):
        own["HOOKMILL_HOST"] = host
        assert len(sources_of(settings_of(monkeypatch, tmp_path, "[sources.github]\n", **own))) == 2


@pytest.mark.parametrize(
    "host", [None, "0.0.0.0", "::", "192.0.2.7", "app.example", "::ffff:192.0.2.7", "localhost.x"]
)
def test_a_secret_that_anyone_knows_is_refused_where_others_can_deliver(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, host: str | None
) -> None:
    variables = {"HOOKMILL_DEVELOPMENT": "1", "MARBLE_WEBHOOK_SECRET": DEVELOPMENT_SECRET}
    if host:
        variables["HOOKMILL_HOST"] = host
    settings = settings_of(monkeypatch, tmp_path, **variables)
    said = f"marble: a secret is a public development key, and HOOKMILL_HOST is {settings.host}, "
    with pytest.raises(SettingsError, match=re.escape(said)):
        sources_of(settings)


def test_a_public_key_of_a_region_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("EU_CENTRAL_1_QSTASH_CURRENT_SIGNING_KEY", DEVELOPMENT_KEYS[0])
    settings = settings_of(monkeypatch, tmp_path, QSTASH_CURRENT_SIGNING_KEY=CURRENT_KEY)
    with pytest.raises(SettingsError, match="qstash: a secret is a public development key"):
        sources_of(settings)


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
