"""What `hookmill check` says of secrets that several sources have in common."""

from __future__ import annotations

import base64

from hookmill.admin.findings import Finding
from hookmill.admin.secret_checks import judge_shared_secrets
from hookmill.admin.source_checks import SourceFacts
from hookmill.signatures import Secret
from hookmill.signatures.presets import PRESETS

SHARED = "0123456789abcdef"


def facts(name: str, preset: str, *texts: str) -> SourceFacts:
    spec = PRESETS[preset].spec if preset in PRESETS else None
    secrets = tuple(Secret(text, "env:X") for text in texts)
    return SourceFacts(name, preset, f"/{name}", spec, None, secrets, ())


def judge(*sources: SourceFacts) -> list[Finding]:
    return list(judge_shared_secrets(sources))


def test_sources_that_share_a_secret_are_named_without_it() -> None:
    (found,) = judge(
        facts("shop", "github", "another secret 1", SHARED),
        facts("crm", "github", SHARED),
        facts("alone", "github", "another secret 2"),
    )
    assert (found.level, found.what) == (
        "warning",
        "a secret is shared by several sources: crm, shop",
    )
    assert SHARED not in repr(found)


def test_two_spellings_of_one_key_are_one_secret() -> None:
    raw = b"0123456789abcdef01234567"
    written = base64.b64encode(raw).decode()
    (found,) = judge(facts("a", "svix", f"whsec_{written}"), facts("b", "svix", written))
    assert found.what.endswith("a, b")


def test_one_source_with_the_same_secret_twice_is_not_warned_of() -> None:
    assert judge(facts("shop", "github", SHARED, SHARED)) == []


def test_what_is_shared_by_design_or_is_no_secret_is_not_warned_of() -> None:
    arn = "arn:aws:sns:eu-central-1:123456789012:orders"
    assert (
        judge(
            facts("qstash", "qstash", SHARED), facts("qstash-callbacks", "qstash-callbacks", SHARED)
        )
        == []
    )
    assert judge(facts("one", "sns", arn), facts("two", "sns", arn)) == []
    assert judge(facts("one", "paypal", "id"), facts("two", "paypal", "id")) == []


def test_a_secret_that_cannot_be_used_is_left_to_its_own_finding() -> None:
    assert judge(facts("a", "svix", "whsec_!!"), facts("b", "svix", "whsec_!!")) == []
