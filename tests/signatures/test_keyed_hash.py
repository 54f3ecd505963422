"""HMACs as Python's own module makes them."""

from __future__ import annotations

import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hookmill.signatures.keyed_hash import keyed_hash

ALGORITHMS = ["sha1", "sha256", "sha512"]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@given(key=st.binary(max_size=300), contents=st.lists(st.binary(max_size=300), max_size=3))
def test_it_is_the_hmac_whatever_the_key_and_however_often_it_is_used(
    algorithm: str, key: bytes, contents: list[bytes]
) -> None:
    digest = keyed_hash(key, algorithm)

    assert [digest(one) for one in contents] == [
        hmac.digest(key, one, algorithm) for one in contents
    ]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("length", [0, 1, 63, 64, 65, 127, 128, 129])
def test_keys_around_the_size_of_a_block_are_hashed_only_if_they_are_longer(
    algorithm: str, length: int
) -> None:
    key = b"k" * length

    assert keyed_hash(key, algorithm)(b"content") == hmac.digest(key, b"content", algorithm)


def test_the_vector_of_rfc_4231() -> None:
    expected = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"

    assert keyed_hash(b"Jefe", "sha256")(b"what do ya want for nothing?").hex() == expected
