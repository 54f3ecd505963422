"""No published token opens the way to keys that are not published."""

from __future__ import annotations

import base64
import json

import pytest

from hookmill.emulator.credentials import (
    DEVELOPMENT_TOKEN,
    PUBLIC_TOKENS,
    are_real,
    check_together,
    fresh_key,
    fresh_token,
    rotated,
)
from hookmill.emulator.models import SigningKeys
from hookmill.errors import SettingsError
from hookmill.signatures.qstash import DEVELOPMENT_KEYS, PUBLIC_KEYS
from tests.support import CURRENT_KEY, NEXT_KEY

PUBLIC = SigningKeys(*DEVELOPMENT_KEYS)
REAL = SigningKeys(CURRENT_KEY, NEXT_KEY)


@pytest.mark.parametrize("token", sorted(PUBLIC_TOKENS))
@pytest.mark.parametrize(
    "keys",
    [
        REAL,
        SigningKeys(CURRENT_KEY, DEVELOPMENT_KEYS[1]),
        SigningKeys(DEVELOPMENT_KEYS[0], NEXT_KEY),
        rotated(REAL),
        rotated(rotated(REAL)),
        rotated(SigningKeys(DEVELOPMENT_KEYS[0], NEXT_KEY)),
    ],
)
def test_with_real_keys_a_published_token_is_refused(token: str, keys: SigningKeys) -> None:
    with pytest.raises(SettingsError, match="QSTASH_TOKEN is a published token") as caught:
        check_together(token, keys)
    assert not [
        secret for secret in (token, keys.current, keys.next) if secret in str(caught.value)
    ]
    check_together(fresh_token(), keys)
    check_together("my-own-token", keys)


@pytest.mark.parametrize("keys", [PUBLIC, rotated(PUBLIC), rotated(rotated(PUBLIC))])
def test_with_published_keys_and_those_made_from_them_by_rotation_it_may_be_used(
    keys: SigningKeys,
) -> None:
    check_together(DEVELOPMENT_TOKEN, keys)
    assert not are_real(keys)


def test_rotated_keys_of_an_older_release_count_as_real() -> None:
    assert are_real(SigningKeys(DEVELOPMENT_KEYS[1], fresh_key()))


def test_every_user_of_the_development_server_is_known() -> None:
    users = [json.loads(base64.b64decode(token))["UserID"] for token in PUBLIC_TOKENS]
    assert sorted(users) == ["defaultUser", "testUser1", "testUser2", "testUser3"]
    assert len(PUBLIC_KEYS) == 2 * len(users) + 2


def test_no_fresh_token_or_key_is_like_another() -> None:
    assert len({fresh_token() for _ in range(100)} | {fresh_key() for _ in range(100)}) == 200
    assert len(fresh_token()) > 40
