"""What the commands ask of one source: its URL, its key, and why it would not start."""

from __future__ import annotations

from pathlib import Path

import pytest

from hookmill.config.dev_files import DEV, kept
from hookmill.config.source_secrets import secrets_to_sign_with
from hookmill.config.sources import check_source, sources_of, url_of
from hookmill.errors import SettingsError
from hookmill.signatures.marble import DEVELOPMENT_SECRET
from hookmill.signatures.qstash import DEVELOPMENT_KEYS
from tests.config.support import settings_of


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


def test_the_secrets_of_a_hookmill_dev_in_this_folder_go_before_the_public_ones(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    made = {"QSTASH_CURRENT_SIGNING_KEY": "sig_of_this_run", "MARBLE_WEBHOOK_SECRET": "of this run"}
    settings = settings_of(monkeypatch, tmp_path)
    with kept(DEV, made):
        for name, secret in zip(("qstash", "marble"), made.values(), strict=True):
            found = secrets_to_sign_with(name, settings, allow_public=True)
            assert [one.text for one in found] == [secret]
            with pytest.raises(SettingsError, match="there is nothing to sign with"):
                secrets_to_sign_with(name, settings, allow_public=False)
    found = secrets_to_sign_with("marble", settings, allow_public=True)
    assert [one.text for one in found] == [DEVELOPMENT_SECRET]


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
