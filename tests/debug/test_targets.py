"""What `hookmill send` signs with: the configured keys, or on this machine those of dev mode."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from multidict import CIMultiDict

from hookmill.config.settings import Settings
from hookmill.debug.targets import (
    Captured,
    case_for,
    headers_of,
    known_sources,
    scheme_for,
    secrets_given,
    sender_for,
)
from hookmill.errors import SettingsError
from hookmill.signatures import Refused, Scheme, Secret, Signed
from hookmill.signatures.marble import DEVELOPMENT_SECRET, marble_scheme
from hookmill.signatures.presets import PRESETS
from hookmill.signatures.qstash import DEVELOPMENT_KEYS, QStash
from hookmill.signatures.spec_verifier import SpecVerifier
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
def test_the_configured_keys_sign_for_any_target(url: str) -> None:
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


@pytest.mark.parametrize(
    ("configured", "key"),
    [
        (CONFIGURED, CURRENT_KEY),
        ({}, DEVELOPMENT_KEYS[0]),
        ({"sources": {"qstash": {"secrets": "env:OUR_KEY"}}}, "sig_of_ours"),
        ({"sources": {"qstash-callbacks": {"secrets": "env:OUR_KEY"}}}, "sig_of_ours"),
        ({"sources": {"outcomes": {"preset": "qstash-callbacks"}}} | CONFIGURED, CURRENT_KEY),
    ],
    ids=["configured", "not", "as messages", "its own", "another name"],
)
def test_callbacks_are_signed_with_the_keys_of_qstashs_messages(
    monkeypatch: pytest.MonkeyPatch, configured: dict[str, Any], key: str
) -> None:
    monkeypatch.setenv("OUR_KEY", "sig_of_ours")
    name = "outcomes" if "outcomes" in configured.get("sources", {}) else "qstash-callbacks"
    made = sender_for(name, f"http://127.0.0.1:8080/{name}", Settings(**configured))
    assert made.preset == "qstash-callbacks"
    assert judge(made.scheme, QStash([key], public_url="http://127.0.0.1:8080")) == "verified"


def test_elsewhere_no_callback_is_sent_that_strangers_could_sign_as_well() -> None:
    url = "https://app.example/qstash-callbacks"
    assert faults_of(sender_for, "qstash-callbacks", url, Settings()) == (
        "QSTASH_CURRENT_SIGNING_KEY is not set: there is nothing to sign with",
    )


@pytest.mark.parametrize("timestamped", [False, True])
def test_marbles_form_is_the_one_the_source_asks_for(timestamped: bool) -> None:
    options: dict[str, Any] = {"sources": {"marble": {"timestamped": timestamped}}}
    signer = scheme_for("marble", ELSEWHERE, Settings(**CONFIGURED, **options))
    assert judge(signer, marble_scheme([MARBLE_SECRET], with_time=timestamped)) == "verified"
    assert judge(signer, marble_scheme([MARBLE_SECRET], with_time=not timestamped)) != "verified"


# --- any other sender ---

HERE = "http://127.0.0.1:8080/github"


def faults_of(*call: Any) -> tuple[str, ...]:
    function, *arguments = call
    with pytest.raises(SettingsError) as caught:
        function(*arguments)
    return caught.value.faults


def test_a_sender_of_the_table_signs_with_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_WEBHOOK_SECRET", "a-secret-of-some-length")
    made = sender_for("github", HERE, Settings())
    assert made.preset == "github"
    verifier = SpecVerifier(PRESETS["github"].spec, ["a-secret-of-some-length"])
    assert judge(made.scheme, verifier) == "verified"


def test_a_source_of_another_name_is_signed_for_as_its_preset_with_its_own_words(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SHOP", "a-secret-of-some-length")
    table: Any = {"shop": {"preset": "shopify", "secrets": "env:SHOP", "encoding": "hex"}}
    made = sender_for("shop", HERE, Settings(sources=table))
    assert made.preset == "shopify"
    assert isinstance(made.scheme, SpecVerifier)
    assert made.scheme.spec.encoding == "hex"


@pytest.mark.parametrize(
    ("url", "given", "expected"),
    [
        (HERE, {}, HERE),
        (HERE, {"public_url": "https://app.example"}, "https://app.example/square"),
        (HERE, {"sources": {"square": {"url": "https://x.example/"}}}, "https://x.example/"),
        (ELSEWHERE, {"public_url": "https://app.example"}, ELSEWHERE),
    ],
)
def test_the_url_that_is_signed_is_the_one_the_receiver_expects(
    monkeypatch: pytest.MonkeyPatch, url: str, given: dict[str, Any], expected: str
) -> None:
    monkeypatch.setenv("SQUARE_WEBHOOK_SECRET", "a-secret-of-some-length")
    assert sender_for("square", url, Settings(**given)).url == expected


@pytest.mark.parametrize("name", ["discord", "sendgrid", "standard-webhooks-v1a", "sns", "paypal"])
def test_where_only_the_sender_has_the_key_that_is_said(name: str) -> None:
    (fault,) = faults_of(sender_for, name, HERE, Settings())
    assert fault.startswith(f"{name} signs with ")
    assert "only" in fault
    assert "has the key" in fault


def test_a_source_that_is_not_there_is_answered_with_those_that_are() -> None:
    settings = Settings(sources={"shop": {"preset": "shopify"}})  # type: ignore[dict-item] # as a file gives it
    (fault,) = faults_of(sender_for, "githup", HERE, settings)
    assert fault == f"there is no source 'githup'; there are {', '.join(known_sources(settings))}"
    assert known_sources(settings)[:2] == ["shop", "qstash"]
    assert set(PRESETS) < set(known_sources(settings))


def test_a_secret_that_is_not_set_is_asked_for_by_its_variable() -> None:
    assert faults_of(sender_for, "github", HERE, Settings()) == (
        "sources.github: GITHUB_WEBHOOK_SECRET is not set: it must hold the signing secret",
    )


# --- a captured delivery ---


def test_headers_are_read_as_they_are_written_and_may_be_given_twice() -> None:
    headers = headers_of(["A: 1", "b:2:3", "A:  x y ", "c:"])
    assert [*headers.items()] == [("A", "1"), ("b", "2:3"), ("A", "x y"), ("c", "")]


def test_what_is_no_header_is_said_by_its_number_without_showing_it() -> None:
    faults = faults_of(headers_of, ["A: 1", "Bearer hunter2", "two words: hunter2"])
    assert faults == (
        "--header (number 2): write 'Name: value', with a colon",
        "--header (number 3): the text before the colon is not a header's name",
    )


def test_secrets_come_from_the_command_line_files_and_variables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "secrets"
    file.write_text("one\n\n two \n")
    monkeypatch.setenv("SOME_SECRET", "three\n")
    found = secrets_given([" as it is "], [file], ["SOME_SECRET"])
    assert [one.text for one in found] == [" as it is ", "one", "two", "three"]
    # A user may have given a secret in place of a name, so it is not shown.
    (tmp_path / "empty").write_text("\n")
    assert faults_of(secrets_given, [], [Path("hunter2"), tmp_path / "empty"], ["swordfish"]) == (
        "--secret-file (number 1): FileNotFoundError",
        "--secret-file (number 2): it is empty",
        "--secret-env (number 1): there is no such variable",
    )


@pytest.mark.parametrize(
    ("url", "settings", "expected"),
    [
        (None, {}, ("", "/square")),
        (None, {"public_url": "https://a.example"}, ("https://a.example/square", "/square")),
        ("https://b.example/x?y=1#z", {}, ("https://b.example/x?y=1", "/x?y=1")),
        ("https://b.example", {}, ("https://b.example", "/")),
        ("https://b.example?y=1", {}, ("https://b.example?y=1", "/?y=1")),
    ],
)
def test_url_and_target_of_a_captured_delivery_follow_from_what_is_given(
    url: str | None, settings: dict[str, Any], expected: tuple[str, str]
) -> None:
    captured = Captured([], b"", "POST", url)
    case, _ = case_for("square", captured, [Secret("x")], Settings(**settings))
    assert (case.delivery.url, case.delivery.target) == expected


def test_without_a_secret_it_is_judged_by_the_sources_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_WEBHOOK_SECRET", "a-secret-of-some-length")
    case, _ = case_for("github", Captured([], b""), [], Settings())
    assert [one.text for one in case.secrets] == ["a-secret-of-some-length"]
    for name in ("qstash", "qstash-callbacks", "svix"):
        *_, fault = faults_of(case_for, name, Captured([], b""), [], Settings())
        assert fault.startswith("no secret: give --secret-env, --secret-file or --secret")


@pytest.mark.parametrize(
    ("source", "captured", "said"),
    [
        ("nope", Captured([], b""), "there is no source 'nope'; there are qstash, "),
        ("sns", Captured([], b""), "sns signs with a certificate"),
        ("github", Captured([], b"", "post"), "--method: write it in capital letters"),
        ("github", Captured([], b"", "POST", "app.example"), "app.example: give an http or https"),
        ("github", Captured([], b"", "POST", "http://a:b"), "http://a:b: give an http or https"),
    ],
)
def test_what_cannot_be_judged_is_said_before(source: str, captured: Captured, said: str) -> None:
    (fault,) = faults_of(case_for, source, captured, [Secret("x")], Settings())
    assert fault.startswith(said)
