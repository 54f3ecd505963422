"""What `hookmill send` signs with: the configured keys, or on this machine those of dev mode."""

from __future__ import annotations

from typing import Any

import pytest
from multidict import CIMultiDict

from hookmill.errors import SettingsError
from hookmill.settings import Settings
from hookmill.signatures import Refused, Scheme, Signed
from hookmill.signatures.marble import DEVELOPMENT_SECRET, marble_scheme
from hookmill.signatures.qstash import DEVELOPMENT_KEYS, QStash
from hookmill.trial import scheme_for
from tests.support import CURRENT_KEY, MARBLE_SECRET, NEXT_KEY

NOW = 1_700_000_000.0
ELSEWHERE = "https://app.example/qstash"

CONFIGURED: dict[str, Any] = {
    "qstash_current_signing_key": CURRENT_KEY,
    "qstash_next_signing_key": NEXT_KEY,
    "marble_webhook_secret": MARBLE_SECRET,
}


def judge(signer: Scheme, verifier: Scheme, target: str = "/qstash") -> str:
    """What the one says to what the other signed: "verified", or the refusal's code."""
    headers = signer.sign(Signed(CIMultiDict(), b"{}", target), NOW).headers
    verdict = verifier.verify(Signed(headers, b"{}", target), NOW)
    return verdict.code if isinstance(verdict, Refused) else "verified"


@pytest.mark.parametrize("url", [ELSEWHERE, "http://127.0.0.1:8080/qstash"])
def test_the_configured_keys_sign_wherever_it_goes(url: str) -> None:
    settings = Settings(**CONFIGURED)
    assert judge(scheme_for("qstash", url, settings), QStash([CURRENT_KEY])) == "verified"
    assert judge(scheme_for("marble", url, settings), marble_scheme([MARBLE_SECRET])) == "verified"


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:8080/qstash",
        "http://localhost:8080/qstash",
        "http://LOCALHOST/qstash",
        "http://[::1]:8080/qstash",
        "https://localhost/qstash",
    ],
)
def test_on_this_machine_the_development_keys_sign_where_none_is_set(url: str) -> None:
    settings = Settings()
    assert judge(scheme_for("qstash", url, settings), QStash(DEVELOPMENT_KEYS)) == "verified"
    assert (
        judge(scheme_for("marble", url, settings), marble_scheme([DEVELOPMENT_SECRET]))
        == "verified"
    )


@pytest.mark.parametrize(
    "url",
    [
        ELSEWHERE,
        "http://127.0.0.1.example/qstash",
        "http://localhost.example/qstash",
        "http://localhost@app.example/qstash",
        "http://app.example/localhost",
        "http://10.0.0.7/qstash",
    ],
)
@pytest.mark.parametrize(
    ("source", "other", "fault"),
    [
        (
            "qstash",
            "marble_webhook_secret",
            "QSTASH_CURRENT_SIGNING_KEY is not set: there is nothing to sign with",
        ),
        (
            "marble",
            "qstash_current_signing_key",
            "MARBLE_WEBHOOK_SECRET is not set: there is nothing to sign with",
        ),
    ],
)
def test_elsewhere_nothing_is_sent_that_strangers_could_sign_as_well(
    url: str, source: str, other: str, fault: str
) -> None:
    for settings in (Settings(), Settings(**{other: CONFIGURED[other]})):
        with pytest.raises(SettingsError) as caught:
            scheme_for(source, url, settings)
        assert caught.value.faults == (fault,)


@pytest.mark.parametrize("source", ["qstash", "marble"])
@pytest.mark.parametrize(
    "url",
    ["", "/qstash", "localhost:8080/qstash", "ftp://localhost/", "http:///qstash", "http://[::1"],
)
def test_what_is_no_url_is_reported_as_that(source: str, url: str) -> None:
    for settings in (Settings(), Settings(**CONFIGURED)):
        with pytest.raises(SettingsError) as caught:
            scheme_for(source, url, settings)
        assert caught.value.faults == (f"{url}: give an http or https URL",)


@pytest.mark.parametrize(
    ("url", "settings", "public_url"),
    [
        # Another machine is asked by the URL that its senders were given.
        ("https://app.example/qstash", {}, "https://app.example"),
        ("https://app.example:8443/qstash?a=1", {}, "https://app.example:8443"),
        ("https://app.example", {}, "https://app.example"),
        (
            "https://app.example/qstash",
            {"public_url": "https://other.example"},
            "https://app.example",
        ),
        # This machine's receiver knows what that is from its settings, which are ours too.
        ("http://127.0.0.1:8080/qstash", {}, "http://127.0.0.1:8080"),
        ("http://[::1]:8080/qstash", {}, "http://[::1]:8080"),
        (
            "http://127.0.0.1:8080/qstash",
            {"public_url": "https://app.example"},
            "https://app.example",
        ),
        (
            "http://localhost:8080/qstash",
            {"public_url": "https://app.example/hooks/"},
            "https://app.example/hooks",
        ),
    ],
)
def test_qstashs_token_is_for_the_url_that_the_receiver_expects(
    url: str, settings: dict[str, Any], public_url: str
) -> None:
    signer = scheme_for("qstash", url, Settings(**CONFIGURED, **settings))
    assert judge(signer, QStash([CURRENT_KEY], public_url=public_url)) == "verified"
    elsewhere = QStash([CURRENT_KEY], public_url="https://elsewhere.example")
    assert judge(signer, elsewhere) == "wrong_url"


@pytest.mark.parametrize("timestamped", [False, True])
def test_marbles_form_is_the_one_the_source_asks_for(timestamped: bool) -> None:
    options: dict[str, Any] = {"sources": {"marble": {"timestamped": timestamped}}}
    signer = scheme_for("marble", ELSEWHERE, Settings(**CONFIGURED, **options))
    assert judge(signer, marble_scheme([MARBLE_SECRET], with_time=timestamped)) == "verified"
    assert judge(signer, marble_scheme([MARBLE_SECRET], with_time=not timestamped)) != "verified"
