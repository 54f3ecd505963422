"""The token of the API."""

from __future__ import annotations

import pytest

from hookmill.emulator.guard import carries_token, is_token


@pytest.mark.parametrize(
    ("header", "is_ours"),
    [
        ("Bearer secret", True),
        ("bearer  secret ", True),
        ("Bearer secre", False),
        ("Bearer ", False),
        ("secret", False),
        ("Basic secret", False),
        ("Bearer \udcff\u00fc", False),
    ],
)
def test_the_token_stands_behind_bearer(header: str, is_ours: bool) -> None:
    assert carries_token(header, "secret") == is_ours


@pytest.mark.parametrize("given", ["", "secre", "secrets", "\u00fc", "\udcff"])
def test_another_token_is_not_ours(given: str) -> None:
    assert is_token("secret", "secret")
    assert not is_token(given, "secret")
