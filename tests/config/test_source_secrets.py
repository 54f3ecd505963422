"""The secrets of sources: which are too weak to start with, and what each of them is called."""

from __future__ import annotations

from pathlib import Path

import pytest

from hookmill.config.sources import sources_of
from hookmill.errors import SettingsError
from tests.config.support import settings_of
from tests.support import CURRENT_KEY, NEXT_KEY

WEAK = [
    ("qstash", "", {"QSTASH_CURRENT_SIGNING_KEY": "k"}),
    ("qstash", "", {"QSTASH_CURRENT_SIGNING_KEY": CURRENT_KEY, "QSTASH_NEXT_SIGNING_KEY": "k"}),
    (
        "qstash",
        "",
        {
            "QSTASH_CURRENT_SIGNING_KEY": CURRENT_KEY,
            "EU_CENTRAL_1_QSTASH_NEXT_SIGNING_KEY": "1234567",
        },
    ),
    ("qstash", '[sources.qstash]\nsecrets = "env:OURS"\n', {"OURS": "k"}),
    ("cb", '[sources.cb]\npreset = "qstash-callbacks"\nsecrets = "env:OURS"\n', {"OURS": "k"}),
    ("marble", "", {"MARBLE_WEBHOOK_SECRET": "x"}),
    ("github", "[sources.github]\n", {"GITHUB_WEBHOOK_SECRET": "1234567"}),
    ("github", '[sources.github]\nsecrets = ["env:OURS", "env:O2"]', {"OURS": "x" * 9, "O2": "é"}),
    ("gitlab-token", "[sources.gitlab-token]\n", {"GITLAB_TOKEN_WEBHOOK_SECRET": "1234567"}),
    ("svix", "[sources.svix]\n", {"SVIX_WEBHOOK_SECRET": "whsec_QQ"}),
    ("svix", "[sources.svix]\n", {"SVIX_WEBHOOK_SECRET": "whsec_MTIzNDU2Nw=="}),
    (
        "us",
        '[sources.us]\nsignature = "header:X-S"\nkey = "hex"\nsecrets = "env:OURS"\n',
        {"OURS": "0123456789abcd"},
    ),
    (
        "meta",
        '[sources.meta]\nsecrets = "env:OURS"\nverify_token = "env:TOKEN"\n',
        {"OURS": "a secret of meta", "TOKEN": "1234567"},
    ),
]


@pytest.mark.parametrize(("name", "table", "variables"), WEAK)
def test_a_secret_of_fewer_than_eight_bytes_does_not_start_wherever_it_comes_from(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    name: str,
    table: str,
    variables: dict[str, str],
) -> None:
    with pytest.raises(SettingsError) as caught:
        sources_of(settings_of(monkeypatch, tmp_path, table, **variables))
    (fault,) = caught.value.faults
    assert fault.startswith(f"sources.{name}: ")
    assert fault.endswith(" has fewer than 8 bytes: it could be guessed")


@pytest.mark.parametrize(("name", "table", "variables"), WEAK)
def test_a_weak_secret_in_a_file_does_not_start_either(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    name: str,
    table: str,
    variables: dict[str, str],
) -> None:
    named = {}
    for variable, text in variables.items():
        (tmp_path / variable).write_text(text)
        table = table.replace(f"env:{variable}", f"file:{variable}")
        named[f"{variable}_FILE"] = variable
    with pytest.raises(SettingsError) as caught:
        sources_of(settings_of(monkeypatch, tmp_path, table, **named))
    (fault,) = caught.value.faults
    assert fault.startswith(f"sources.{name}: file:")
    assert fault.endswith(" has fewer than 8 bytes: it could be guessed")


def test_eight_bytes_are_enough_in_whatever_form(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    table = (
        '[sources.svix]\n[sources.us]\nsignature = "header:X-S"\nkey = "hex"\n[sources.github]\n'
    )
    settings = settings_of(
        monkeypatch,
        tmp_path,
        table,
        SVIX_WEBHOOK_SECRET="whsec_MTIzNDU2Nzg=",
        US_WEBHOOK_SECRET="0123456789abcdef",
        GITHUB_WEBHOOK_SECRET="éééé",
    )
    assert len(sources_of(settings)) == 3


def test_a_public_key_has_a_rule_of_its_own(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    settings = settings_of(
        monkeypatch, tmp_path, "[sources.discord]\n", DISCORD_WEBHOOK_SECRET="abcdef"
    )
    with pytest.raises(SettingsError, match="an Ed25519 public key has 32 bytes, not 3"):
        sources_of(settings)


def test_each_secret_has_a_name_of_its_own_without_a_path(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("EU_CENTRAL_1_QSTASH_CURRENT_SIGNING_KEY", "sig_of_the_region")
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    (tmp_path / "a/github.secret").write_text("the first secret\nthe second secret\n")
    (tmp_path / "b/github.secret").write_text("the third secret\n")
    (tmp_path / "marble").write_text("a secret of marble\nanother of marble\n")
    table = (
        '[sources.github]\nsecrets = ["file:a/github.secret", "file:b/github.secret", "env:OURS"]\n'
    )
    settings = settings_of(
        monkeypatch,
        tmp_path,
        table,
        QSTASH_CURRENT_SIGNING_KEY=CURRENT_KEY,
        QSTASH_NEXT_SIGNING_KEY=NEXT_KEY,
        MARBLE_WEBHOOK_SECRET_FILE=str(tmp_path / "marble"),
        OURS="the last secret",
    )
    assert {source.name: source.scheme.labels for source in sources_of(settings)} == {
        "qstash": [
            "env:QSTASH_CURRENT_SIGNING_KEY",
            "env:QSTASH_NEXT_SIGNING_KEY",
            "env:EU_CENTRAL_1_QSTASH_CURRENT_SIGNING_KEY",
        ],
        "marble": ["file:marble", "file:marble (2)"],
        "github": [
            "file:github.secret",
            "file:github.secret (2)",
            "file:github.secret (3)",
            "env:OURS",
        ],
    }
