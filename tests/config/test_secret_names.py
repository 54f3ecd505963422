"""The names of secrets: each has one of its own, and keeps it in a rotation."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hookmill.config.secret_names import with_names
from hookmill.signatures import Secret


def named(*texts: str, before: tuple[Secret, ...] = ()) -> tuple[Secret, ...]:
    return with_names([Secret(text, "file:x") for text in texts], before)


def labels(secrets: tuple[Secret, ...]) -> dict[str, str]:
    return {secret.text: secret.label for secret in secrets}


def test_a_secret_keeps_its_name_wherever_the_new_one_is_written() -> None:
    first = named("old")
    assert labels(first) == {"old": "file:x"}
    above, below = named("new", "old", before=first), named("old", "new", before=first)
    assert labels(above) == labels(below) == {"old": "file:x", "new": "file:x (2)"}
    assert labels(named("new", before=above)) == {"new": "file:x (2)"}


def test_a_name_is_used_again_only_when_its_secret_is_gone() -> None:
    second = named("new", before=named("old", "new"))
    assert labels(named("new", "newer", before=second)) == {"new": "file:x (2)", "newer": "file:x"}


@given(
    st.lists(
        st.lists(
            st.builds(
                Secret,
                st.sampled_from("abc"),
                st.sampled_from(["env:A", "file:x", "file:x (2)", "file:x*"]),
            ),
            max_size=5,
        ),
        max_size=4,
    )
)
def test_no_two_secrets_of_a_source_share_a_name(
    contents: list[list[Secret]],
) -> None:
    before: tuple[Secret, ...] = ()
    for secrets in contents:
        after = with_names(secrets, before)
        assert [one.text for one in after] == [one.text for one in secrets]
        assert len({one.label for one in after}) == len(after)
        before = after
