"""`hookmill send` and `hookmill verify` as a person meets them."""

from __future__ import annotations

import hmac
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.running import hookmill


def test_a_body_to_send_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    answer = hookmill("send", "--body-file", "missing.json", folder=tmp_path)

    assert (answer.returncode, answer.stderr) == (
        1,
        "hookmill: missing.json: No such file or directory\n",
    )


@pytest.mark.parametrize(
    ("source", "said"),
    [("nope", "there is no source 'nope'; there are qstash, "), ("discord", "only the sender has")],
)
def test_what_cannot_be_sent_is_said_and_ends_in_2(source: str, said: str) -> None:
    answer = hookmill("send", "--source", source)
    assert (answer.returncode, answer.stdout) == (2, "")
    assert said in answer.stderr


SIGNED = "X-Hub-Signature-256: sha256=" + hmac.digest(b"the-secret", b"{}", "sha256").hex()


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [(b"{}", 0, "github: valid\n"), (b"{}\n", 1, "github: refused (signature_mismatch): ")],
)
@pytest.mark.parametrize("given", ["--secret", "--secret-file", "--secret-env"])
def test_a_captured_delivery_is_judged_with_a_secret_from_anywhere(
    tmp_path: Path, body: bytes, status: int, said: str, given: str
) -> None:
    (tmp_path / "body").write_bytes(body)
    (tmp_path / "secret").write_text("the-secret\n")
    value = {"--secret": "the-secret", "--secret-file": "secret", "--secret-env": "THE"}[given]
    answer = hookmill(
        *("verify", "--source", "github", given, value, "--header", SIGNED),
        *("--header", "X-GitHub-Event: ping", "--body-file", "body"),
        env={"THE": "the-secret"},
        folder=tmp_path,
    )
    assert (answer.returncode, answer.stderr) == (status, "")
    assert answer.stdout.startswith(said)
    assert "the-secret" not in answer.stdout
    assert ("it would match if the body had no newline at its end" in answer.stdout) is bool(status)


def test_a_verdict_for_programs_is_json_and_the_body_may_come_from_standard_input() -> None:
    done = subprocess.run(
        [
            *(sys.executable, "-m", "hookmill", "verify", "--source", "stripe", "--json"),
            *("--secret", "the-secret", "--now", "1000", "--body-file", "-"),
            *("--header", "Stripe-Signature: t=900,v1="
              + hmac.digest(b"the-secret", b"900.\r\n\x00", "sha256").hex()),
        ],
        env={"PATH": os.environ["PATH"]},
        input=b"\r\n\x00",
        capture_output=True,
        check=False,
    )  # fmt: skip
    report = json.loads(done.stdout)
    assert (done.returncode, report["verdict"], report["source"]) == (0, "valid", "stripe")
    assert "100 s old" in report["steps"][1]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--source", "nope"], "there is no source 'nope'"),
        (["--source", "github", "--header", "hunter2"], "--header (number 1): write 'Name: value'"),
        (["--source", "github", "--body-file", "missing"], "missing: No such file"),
        (["--source", "github", "--secret-env", "hunter2"], "there is no such variable"),
        (["--source", "github", "--now", "nan"], "--now: give a Unix time"),
        (["--source", "github", "--url", "x"], "x: give an http or https URL"),
        ([], "--source"),
    ],
)
def test_a_delivery_that_cannot_be_judged_ends_in_2(
    tmp_path: Path, options: list[str], said: str
) -> None:
    (tmp_path / "body").touch()
    given = ["verify", "--secret", "s", "--body-file", "body", *options]
    answer = hookmill(*given, folder=tmp_path)
    assert (answer.returncode, answer.stdout) == (2, "")
    assert said in answer.stderr
    assert "Traceback" not in answer.stderr
    assert "hunter2" not in answer.stderr
