"""Which signature specs are refused as unusable or unsafe."""

from __future__ import annotations

import math
from typing import Any

import pytest

from hookmill.errors import SettingsError
from hookmill.signatures.spec import LONGEST_TOLERANCE, SignatureSpec
from hookmill.signatures.spec_rules import faults_of
from hookmill.signatures.spec_verifier import SpecVerifier

LIST = {"split": ",", "pair": "=", "item": "v1"}
TIMED = {"timestamp": "header:X-Time"}
SPLIT = "could move text from one to the other"


def spec(**words: Any) -> SignatureSpec:
    return SignatureSpec(**{"signature": "header:X-Signature", **words})


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        # What is signed says too little.
        ({"content": "{timestamp}.{url}", **TIMED}, "content: it does not hold {body}"),
        ({"content": ""}, "content: it holds no field"),
        ({"content": "constant", "unsigned_body": True}, "content: it holds no field"),
        ({"algorithm": "token"}, "content: a token signs nothing"),
        # A time that anybody can change.
        (TIMED, "timestamp: the signature does not cover it"),
        ({"timestamp": "item:t", **LIST}, "timestamp: the signature does not cover it"),
        (
            {"content": "{json:a}", "unsigned_body": True, "timestamp": "json:t"},
            "timestamp: the signature does not cover it",
        ),
        ({"content": "{twilio}", **TIMED}, "timestamp: the signature does not cover it"),
        ({"algorithm": "token", "content": "", **TIMED}, "timestamp: the signature does not"),
        # A tolerance that accepts every time, or none.
        *(
            (
                {"content": "{timestamp}.{body}", **TIMED, "tolerance": tolerance},
                "tolerance: give the seconds",
            )
            for tolerance in (0, -1, math.nan, math.inf, -math.inf, LONGEST_TOLERANCE + 1, 1e300)
        ),
        # Borders that can be moved.
        ({"content": "{id}{body}", "id": ("header:X-Id",)}, SPLIT),
        ({"content": "{header:X-A}{header:X-B}{body}"}, SPLIT),
        ({"content": "{body}{header:X-A}"}, SPLIT),
        ({"content": "{header:X-A}{url}{body}"}, SPLIT),
        ({"content": "{json:a}{json:b}", "unsigned_body": True}, SPLIT),
        ({"content": "{id}{timestamp}.{body}", "id": ("header:X-Id",), **TIMED}, SPLIT),
        ({"content": "{body}.{timestamp}{id}", "id": ("header:X-Id",), **TIMED}, SPLIT),
        (
            {
                "content": "{body}{id}.{timestamp}",
                "id": ("header:X-Id",),
                "unit": "rfc3339",
                **TIMED,
            },
            SPLIT,
        ),
        ({"content": "{body}{body}"}, SPLIT),
        ({"content": "{body}.{body}"}, "content: {body} is signed twice"),
        ({"content": "{json:a}.{body}.{json:a}"}, "content: {json:a} is signed twice"),
        ({"content": "{id}.{form:a}.{body}", "id": ("form:a",)}, "content: {form:a} is signed"),
        ({"content": "{timestamp}.{timestamp}.{body}", **TIMED}, "content: {timestamp} is signed"),
        # Words that do not belong together.
        ({"pair": "="}, "pair and item belong together"),
        ({"item": "v1"}, "pair and item belong together"),
        ({"content": "{timestamp}.{body}", "timestamp": "item:t"}, "item: the signature header"),
        ({"content": "{item:t}.{body}"}, "item: the signature header"),
        ({"prefix": "sha256=", **LIST}, "prefix: with items"),
        # Fields that stand nowhere.
        ({"content": "{id}.{body}"}, "content: it holds {id}, but id names no place"),
        ({"content": "{id}.{body}", "id": ("body",)}, "content: it holds {id}, but id names no"),
        (
            {"content": "{id}.{body}", "id": ("{header:X-A}-{header:X-B}",)},
            "id: content holds {id}, so the first id must be",
        ),
        (
            {"content": "{id}.{body}", "id": ("x{header:X-A}",)},
            "id: content holds {id}, so the first id must be",
        ),
        (
            {"content": "{id}.{body}", "id": ("{header:X-A}x",)},
            "id: content holds {id}, so the first id must be",
        ),
        ({"content": "{timestamp}.{body}"}, "content: it holds {timestamp}, but timestamp names"),
        ({"content": "{bodyy}"}, "content: 'bodyy' is no place"),
        ({"content": "{body"}, "content: a brace in"),
        ({"content": "{body}}"}, "content: a brace in"),
        ({"content": "{twilio}{body}"}, "content: a rule of one sender, such as {twilio}, must be"),
        ({"content": "v0:{hubspot}"}, "content: a rule of one sender, such as {twilio}, must be"),
        ({"signature": "X-Signature"}, "signature: 'X-Signature' is no place"),
        ({"signature": "header:X Signature"}, "signature: 'header:X Signature' is no place"),
        ({"signature": "item:v1", **LIST}, "signature: 'item:v1' is no place"),
        ({"signature": "json:a..b"}, "signature: 'json:a..b' is no place"),
        ({"timestamp": "header:"}, "timestamp: 'header:' is no place"),
        ({"id": ("nowhere",)}, "id: 'nowhere' is no place"),
        ({"id": ("item:id",), **LIST}, "id: 'item:id' is no place"),
        ({"type": ("json:type", "{body}")}, "type: 'body' is no place"),
        ({"single_use": "item:n", **LIST}, "single_use: 'item:n' is no place"),
        # What is good once must be signed, and end some day.
        (
            {"single_use": "header:X-Nonce", "content": "{timestamp}.{body}", **TIMED},
            "single_use: the signature does not cover it",
        ),
        ({"single_use": "json:nonce"}, "single_use: without a signed time"),
    ],
    ids=str,
)
def test_a_spec_that_is_unsafe_or_makes_no_sense_is_refused(
    words: dict[str, Any], fault: str
) -> None:
    faults = faults_of(spec(**words))
    assert any(fault in one for one in faults), faults
    with pytest.raises(SettingsError) as caught:
        SpecVerifier(spec(**words), ["a_secret_that_is_long_enough"])
    assert list(caught.value.faults) == faults


@pytest.mark.parametrize(
    "words",
    [
        {},
        {"content": "{method}{url}{body}"},
        {"content": "{timestamp}{body}", **TIMED},
        {"content": "{body}{timestamp}", **TIMED},
        {"content": "{id}{timestamp}{body}", "id": ("header:X-Id",), "unit": "rfc3339", **TIMED},
        {"content": "{header:X-A}|{header:X-B}|{body}|{header:X-C}|{header:X-A}"},
        {"content": "{timestamp}{json:token}", "timestamp": "json:t", "unsigned_body": True},
        {"timestamp": "json:sent_at", "unit": "ms"},
        {"content": "{item:t}.{body}", **LIST},
        {
            "content": "{timestamp}.{body}",
            "timestamp": "item:t",
            "tolerance": LONGEST_TOLERANCE,
            **LIST,
        },
        {"single_use": "json:nonce", "content": "{timestamp}.{body}", **TIMED},
        {"algorithm": "token", "content": ""},
        {"id": ("body",)},
    ],
    ids=str,
)
def test_a_spec_that_is_safe_has_no_fault(words: dict[str, Any]) -> None:
    assert faults_of(spec(**words)) == []


def test_every_fault_is_named_at_once() -> None:
    faults = faults_of(spec(signature="nowhere", id=("nor:here",), pair="="))
    assert [one.partition(":")[0] for one in faults] == [
        "signature",
        "id",
        "pair and item belong together",
    ]
