"""Where a delivery's ID and event type are found, in bodies and headers of every shape."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from multidict import CIMultiDict

from hookmill.errors import SettingsError
from hookmill.settings import load_settings
from hookmill.signatures import Refused, Scheme, Signed
from hookmill.signatures.marble import Marble
from hookmill.signatures.qstash import QStash
from hookmill.sources import Identity, Source, identify_marble, identify_qstash, sources_of
from tests.support import CURRENT_KEY, MARBLE_SECRET, NEXT_KEY, signed_headers

LONGEST = "n" * 255
TOO_LONG = "n" * 256
DEEP = b"[" * 100_000 + b"]" * 100_000

NO_HEADERS = CIMultiDict[str]()
QSTASH_ID = CIMultiDict({"upstash-message-id": "msg_1"})


def type_of(identity: Identity | Refused) -> str:
    assert isinstance(identity, Identity), identity
    return identity.type


def id_of(identity: Identity | Refused) -> str | None:
    assert isinstance(identity, Identity), identity
    return identity.id


# --- the event type ---

SHAPELESS = [
    b"",
    b" ",
    b"{",
    b"}",
    b"null",
    b"true",
    b"5",
    b'"post.published"',
    b"[]",
    b'[{"type":"a"}]',
    b"{}",
    b'{"hello":"world"}',
    b"plain text",
    b"type=a&event=b",
    b"<type>a</type>",
    b"\x00\xff\xfe",
    b"\xef\xbb\xbf" + b'{"type":"a"}',
    '{"type":"a"}'.encode("utf-16"),
    b'{"type":"a"}{"type":"b"}',
    b'{"type":"a",}',
    b"{'type':'a'}",
    b'{"Type":"a"}',
    b'{"data":{"type":"a","event":"a"}}',
    b'{"type":null}',
    b'{"type":5}',
    b'{"type":true}',
    b'{"type":["a"]}',
    b'{"type":{"name":"a"}}',
    b'{"type":""}',
    b'{"type":"' + TOO_LONG.encode() + b'"}',
    b'{"type":"\\ud800"}',
    b'{"type":"\\udc00\\ud800"}',
    b'{"type":"\xff"}',
    b'{"type":"\xed\xa0\x80"}',
    b'{"type":"a',
    b'{"type":',
    b"[" * 100_000,
    b'{"type":' * 100_000,
    DEEP,
    b'{"x":' + DEEP + b',"type":"a"}',
]


@pytest.mark.parametrize("identify", [identify_qstash, identify_marble])
@pytest.mark.parametrize("body", SHAPELESS, ids=lambda body: ascii(body)[:40])
def test_a_body_of_any_shape_is_taken_its_type_is_then_empty(identify: Any, body: bytes) -> None:
    assert identify(NO_HEADERS, body) == Identity(None, "")


@pytest.mark.parametrize(
    ("body", "qstash", "marble"),
    [
        (b'{"type":"a"}', "a", "a"),
        (b'{"event":"b"}', "b", "b"),
        # Both are there: each sender has the one it goes by.
        (b'{"type":"a","event":"b"}', "b", "a"),
        (b'{"event":"b","type":"a"}', "b", "a"),
        # One of the two says nothing, so the other does.
        (b'{"type":"a","event":""}', "a", "a"),
        (b'{"type":"","event":"b"}', "b", "b"),
        (b'{"type":"a","event":5}', "a", "a"),
        (b'{"type":{},"event":"b"}', "b", "b"),
        (b'{"type":"a","event":null}', "a", "a"),
        (b'{"type":"\xff","event":"b"}', "b", "b"),
        (json.dumps({"type": TOO_LONG, "event": "b"}).encode(), "b", "b"),
        (json.dumps({"type": LONGEST}).encode(), LONGEST, LONGEST),
        (json.dumps({"type": "é" * 255}).encode(), "é" * 255, "é" * 255),
        # Given twice, the last one counts, as it does for the event's decoder.
        (b'{"type":"a","type":"b"}', "b", "b"),
        (b'{"type":"a","type":5}', "", ""),
        # Whatever stands around it.
        (b' {\n"type" : "a" }\n', "a", "a"),
        (b'{"ty\\u0070e":"\\u0061"}', "a", "a"),
        (b'{"type":"\\ud83d\\ude00"}', "😀", "😀"),
        (b'{"type":" a "}', " a ", " a "),
        (b'{"type":"a\\u0000\\n"}', "a\0\n", "a\0\n"),
        (b'{"x":"\xff","type":"a","y":{"type":"b"}}', "a", "a"),
    ],
    ids=lambda value: ascii(value)[:40],
)
def test_the_type_is_the_event_or_type_field(body: bytes, qstash: str, marble: str) -> None:
    assert type_of(identify_qstash(NO_HEADERS, body)) == qstash
    assert type_of(identify_marble(NO_HEADERS, body)) == marble


# --- the ID in QStash's header ---


@pytest.mark.parametrize("identify", [identify_qstash, identify_marble])
@pytest.mark.parametrize(
    "value", ["msg_26hZCxZCuWyyTWPmSVBrNB882AB", "m", "a b", "é".encode().hex(), LONGEST, "{}:/="]
)
def test_the_header_gives_the_id(identify: Any, value: str) -> None:
    headers = CIMultiDict({"UPSTASH-MESSAGE-ID": value})
    assert id_of(identify(headers, b'{"event":"a"}')) == value


@pytest.mark.parametrize("identify", [identify_qstash, identify_marble])
@pytest.mark.parametrize(
    "value",
    [
        "",
        TOO_LONG,
        "msg_é",
        "msg_\udcff",
        "msg_lone_\ud800",
        "msg_\n1",
        "msg_\r\nX: y",
        "msg_\t1",
        "msg_\x001",
        "msg_\x7f",
    ],
    ids=lambda value: ascii(value)[:40],
)
def test_a_header_that_is_no_id_is_refused(identify: Any, value: str) -> None:
    refused = identify(CIMultiDict({"Upstash-Message-Id": value}), b"{}")
    assert isinstance(refused, Refused)
    assert refused.code in {"message_id_malformed", "header_malformed"}
    assert "msg_" not in refused.detail
    assert "Upstash-Message-Id" in refused.detail


@pytest.mark.parametrize("identify", [identify_qstash, identify_marble])
@pytest.mark.parametrize("second", ["msg_1", "msg_2", ""])
def test_a_second_id_is_refused(identify: Any, second: str) -> None:
    headers = CIMultiDict([("Upstash-Message-Id", "msg_1"), ("upstash-message-id", second)])
    assert identify(headers, b"{}") == Refused(
        "header_repeated", "there are 2 Upstash-Message-Id headers, one is allowed"
    )


def test_qstash_goes_by_its_header_alone() -> None:
    body = b'{"id":"evt_1","type":"post.published"}'
    assert identify_qstash(QSTASH_ID, body) == Identity("msg_1", "post.published")
    assert identify_qstash(NO_HEADERS, body) == Identity(None, "post.published")


# --- the ID in Marble's body ---

FOREIGN = CIMultiDict(
    [
        ("x-marble-event-id", "evt_forged"),
        ("x-marble-delivery-id", "whd_forged"),
        ("x-marble-event", "post.deleted"),
        ("Upstash-Message-Id", "msg_forged"),
    ]
)
GARBAGE = CIMultiDict([("Upstash-Message-Id", "\udcff"), ("Upstash-Message-Id", "")])


@pytest.mark.parametrize("headers", [NO_HEADERS, FOREIGN, GARBAGE])
def test_the_signed_id_wins_over_whatever_the_headers_say(headers: CIMultiDict[str]) -> None:
    body = b'{"id":"evt_1","type":"post.published","data":{"id":"post_1"}}'
    assert identify_marble(headers, body) == Identity("evt_1", "post.published")


def test_the_older_generation_has_its_id_from_qstash() -> None:
    body = b'{"event":"post.published","data":{"id":"post_1","slug":"s"}}'
    headers = CIMultiDict(
        {"Upstash-Message-Id": "msg_1", "x-marble-event-id": "evt_forged"},
    )
    assert identify_marble(headers, body) == Identity("msg_1", "post.published")
    # No ID, no dedup: two genuine updates of one post have the very same bytes.
    assert identify_marble(NO_HEADERS, body) == Identity(None, "post.published")


@pytest.mark.parametrize(
    "signed_id",
    ['""', "null", "5", "[]", '{"a":"evt_1"}', f'"{TOO_LONG}"', "true"],
    ids=lambda value: value[:20],
)
def test_a_signed_id_that_is_none_leaves_it_to_the_header(signed_id: str) -> None:
    body = f'{{"id":{signed_id},"type":"post.published"}}'.encode()
    assert identify_marble(QSTASH_ID, body) == Identity("msg_1", "post.published")
    assert identify_marble(NO_HEADERS, body) == Identity(None, "post.published")


@pytest.mark.parametrize("body", [b'{"id":"post_1"}', b'{"id":"post_1","event":"post.updated"}'])
def test_an_id_without_the_envelopes_type_is_not_the_events_id(body: bytes) -> None:
    assert id_of(identify_marble(QSTASH_ID, body)) == "msg_1"
    assert id_of(identify_marble(NO_HEADERS, body)) is None


def test_half_a_surrogate_pair_anywhere_makes_a_body_unreadable() -> None:
    # As it does for the event's decoder, which is to say so in the dead letter.
    body = b'{"id":"evt_1","type":"post.published","data":{"title":"\\ud83d"}}'
    assert identify_marble(QSTASH_ID, body) == Identity("msg_1", "")
    assert identify_qstash(QSTASH_ID, body) == Identity("msg_1", "")


def test_a_signed_id_may_hold_any_text() -> None:
    body = '{"id":"evt_é\\u0000\\n😀","type":"a"}'.encode()
    assert id_of(identify_marble(NO_HEADERS, body)) == "evt_é\0\n😀"


# --- whatever comes ---

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
BODIES = st.binary() | st.dictionaries(
    st.sampled_from(["id", "type", "event", "data"]), JSON_VALUES
).map(lambda fields: json.dumps(fields).encode())
HEADERS = st.lists(
    st.tuples(
        st.sampled_from(["Upstash-Message-Id", "x-marble-event-id"]),
        st.binary().map(lambda raw: raw.decode("utf-8", "surrogateescape")) | st.text(),
    ),
    max_size=3,
).map(CIMultiDict)


@given(identify=st.sampled_from([identify_qstash, identify_marble]), headers=HEADERS, body=BODIES)
@hypothesis_settings(deadline=None)
def test_any_headers_and_body_give_names_that_can_be_stored_or_a_refusal(
    identify: Any, headers: CIMultiDict[str], body: bytes
) -> None:
    found = identify(headers, body)
    if isinstance(found, Refused):
        found.detail.encode()
        return
    assert len(found.type.encode()) <= 4 * 255
    assert found.id is None or 0 < len(found.id) <= 255
    (found.id or "").encode()


# --- the sources that the settings switch on ---


def settings_of(
    monkeypatch: pytest.MonkeyPatch, folder: Path, toml: str = "", **variables: str
) -> Any:
    (folder / "hookmill.toml").write_text(toml)
    monkeypatch.chdir(folder)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return load_settings()


def test_without_keys_nothing_is_open(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert sources_of(settings_of(monkeypatch, tmp_path)) == []


@pytest.mark.parametrize(
    ("variables", "paths"),
    [
        ({"QSTASH_CURRENT_SIGNING_KEY": CURRENT_KEY}, {"qstash": "/qstash"}),
        ({"MARBLE_WEBHOOK_SECRET": MARBLE_SECRET}, {"marble": "/marble"}),
        (
            {"QSTASH_CURRENT_SIGNING_KEY": CURRENT_KEY, "MARBLE_WEBHOOK_SECRET": MARBLE_SECRET},
            {"qstash": "/qstash", "marble": "/marble"},
        ),
    ],
)
def test_a_key_in_the_environment_switches_its_source_on(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    variables: dict[str, str],
    paths: dict[str, str],
) -> None:
    sources = sources_of(settings_of(monkeypatch, tmp_path, **variables))
    assert {source.name: source.path for source in sources} == paths


def test_a_source_takes_what_the_settings_say(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    toml = '[sources.qstash]\npath = "/"\n[sources.marble]\npath = "/cms"\ntimestamped = true\n'
    settings = settings_of(
        monkeypatch,
        tmp_path,
        toml,
        QSTASH_CURRENT_SIGNING_KEY=CURRENT_KEY,
        QSTASH_NEXT_SIGNING_KEY=NEXT_KEY,
        MARBLE_WEBHOOK_SECRET=MARBLE_SECRET,
        HOOKMILL_PUBLIC_URL="https://app.example/hooks/",
        HOOKMILL_CLOCK_TOLERANCE="7",
    )
    qstash, marble = sources_of(settings)
    assert (qstash.path, qstash.identify) == ("/", identify_qstash)
    assert (marble.path, marble.identify) == ("/cms", identify_marble)

    def judge(source: Source, signer: Scheme, late_by: float = 0) -> str:
        headers = CIMultiDict(signed_headers(signer, b"", "/", now=1e9))
        verdict = source.scheme.verify(Signed(headers, b""), 1e9 + late_by)
        return verdict.code if isinstance(verdict, Refused) else "verified"

    signer = QStash([NEXT_KEY], public_url="https://app.example/hooks")
    assert judge(qstash, signer, 306) == "verified"
    assert judge(qstash, signer, 307) == "expired"
    assert judge(qstash, signer, -7) == "verified"
    assert judge(qstash, signer, -8) == "not_yet_valid"
    assert judge(qstash, QStash([NEXT_KEY], public_url="https://app.example")) == "wrong_url"
    assert judge(qstash, QStash(["sig_strange"])) == "signature_mismatch"

    assert judge(marble, Marble([MARBLE_SECRET], timestamped=True)) == "verified"
    assert judge(marble, Marble([MARBLE_SECRET])) == "header_missing"
    assert judge(marble, Marble(["strange"], timestamped=True)) == "signature_mismatch"


@pytest.mark.parametrize(
    "variables",
    [
        {"QSTASH_CURRENT_SIGNING_KEY": "-----BEGIN PUBLIC KEY-----\nx\n-----END PUBLIC KEY-----"},
        {"QSTASH_CURRENT_SIGNING_KEY": "sig_\udcff"},
        {"MARBLE_WEBHOOK_SECRET": "hush\udcff"},
    ],
)
def test_a_source_without_a_usable_secret_does_not_start(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, variables: dict[str, str]
) -> None:
    with pytest.raises(SettingsError):
        sources_of(settings_of(monkeypatch, tmp_path, **variables))
