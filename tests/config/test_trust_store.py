"""The machine's trusted authorities are found, in a file or in a folder."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from hookmill.config.trust_store import system_roots
from hookmill.errors import SettingsError
from hookmill.signatures.certificates import certificates_in
from tests.authority import Issuer

ONE, TWO = Issuer("One", 1_779_460_951), Issuer("Two", 1_779_460_951)


@pytest.fixture(autouse=True)
def no_roots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none.pem"))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path / "none"))


def test_they_may_be_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "all.pem").write_bytes(ONE.pem + TWO.pem)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "all.pem"))
    assert certificates_in(system_roots()) == [ONE.certificate, TWO.certificate]


def test_they_may_be_a_folder_in_which_each_has_two_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "certs"
    folder.mkdir()
    (folder / "one.pem").write_bytes(ONE.pem.rstrip())
    (folder / "two.pem").write_bytes(TWO.pem)
    (folder / "0123abcd.0").symlink_to(folder / "one.pem")
    (folder / "gone.pem").symlink_to(folder / "nothing.pem")
    monkeypatch.setenv("SSL_CERT_DIR", str(folder))
    assert certificates_in(system_roots()) == [ONE.certificate, TWO.certificate]


def test_without_any_certifi_is_asked_and_without_that_nothing_starts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "certifi", None)
    with pytest.raises(SettingsError) as caught:
        system_roots()
    assert caught.value.faults == (
        "this machine has no trusted certificates: install ca-certificates, or certifi",
    )
