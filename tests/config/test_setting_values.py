"""Single settings: which values they take, and in which form."""

from __future__ import annotations

import pytest

from hookmill.config.settings import load_settings
from tests.config.support import SetEnv, faults


def test_the_public_url_is_kept_without_its_last_slash(setenv: SetEnv) -> None:
    setenv(HOOKMILL_PUBLIC_URL="https://app.example/base/")

    assert load_settings().public_url == "https://app.example/base"


@pytest.mark.parametrize(
    "url",
    [
        "qstash.upstash.io",
        "ftp://qstash.example",
        "https://",
        "https://a.example:port",
        "https://token-5@a.example",
        "https://a.example?qstash_token=token-5",
        "https://a.example/#token-5",
        "https://a b.example",
    ],
)
def test_what_is_no_base_url_is_a_fault_that_does_not_show_it(setenv: SetEnv, url: str) -> None:
    setenv(QSTASH_URL=url)

    (fault,) = faults()
    assert fault.startswith("QSTASH_URL: give the base URL of QStash's API")
    assert "token-5" not in fault


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ("memory", "memory"),
        ("aof", "aof"),
        ("replicas:1", "replicas:1"),
        ("replicas:07", "replicas:7"),
    ],
)
def test_a_durability_level_is_read(setenv: SetEnv, given: str, read: str) -> None:
    setenv(HOOKMILL_DURABILITY=given)
    assert load_settings().durability == read


@pytest.mark.parametrize(
    "given", ["disk", "AOF", "replicas", "replicas:", "replicas:0", "replicas:²"]
)
def test_another_durability_level_is_a_fault(setenv: SetEnv, given: str) -> None:
    setenv(HOOKMILL_DURABILITY=given)
    assert faults() == [
        f"HOOKMILL_DURABILITY: use memory, aof, or replicas:N with N from 1 to 99 (got {given!r})"
    ]
