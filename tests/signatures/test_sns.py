"""SNS: what is signed, which topics count, and how old a message may be."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hookmill.errors import SettingsError
from hookmill.signatures.scheme import NeedsCertificate, NetworkScheme, Refused, Secret, Verified
from hookmill.signatures.sns import SNS, TOLERANCE, names_in
from tests.signatures.sns_messages import (
    CERTIFICATE,
    CONFIRM,
    ISSUER,
    KEY,
    NOW,
    OTHER_TOPIC,
    SIGNED,
    TOPIC,
    URL,
    code_of,
    delivery,
    message,
    question,
    scheme,
    sign,
    verify,
)

# --- what is signed ---


@pytest.mark.parametrize(
    "fields",
    [
        message(),
        message(SignatureVersion="1"),
        message(Subject=None),
        message(Message=""),
        message(Message="grüß\u2028dich \U0001f600"),
        question(),
        question(SignatureVersion="1"),
        question(Type="UnsubscribeConfirmation"),
    ],
)
def test_what_sns_signs_is_accepted(fields: dict[str, Any]) -> None:
    assert verify(fields) == Verified(0)


def test_without_its_certificate_nothing_is_accepted_and_the_url_is_named() -> None:
    assert SNS([TOPIC]).verify(delivery(sign(message())), NOW) == NeedsCertificate(URL)


def test_it_is_a_scheme_that_needs_the_network() -> None:
    made: NetworkScheme = SNS([TOPIC])
    with pytest.raises(SettingsError):
        made.sign(delivery(b""), NOW)


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (kind, name)
        for kind, names in SIGNED.items()
        for name in names
        if name not in {"Type", "TopicArn"}
    ],
)
def test_every_changed_signed_field_is_refused(kind: str, name: str) -> None:
    fields = message() if kind == "Notification" else question()
    body = json.loads(sign(fields))
    changed = {
        "Timestamp": "2026-05-22T14:42:31.501Z",
        "SubscribeURL": CONFIRM[:-1] + "0",
    }.get(name, fields[name] + "0")
    forged = json.dumps(body | {name: changed}).encode()
    assert code_of(scheme().verify(delivery(forged), NOW)) == "signature_mismatch"


def test_another_topic_another_type_and_a_subject_taken_away_are_refused() -> None:
    made = scheme(topics=[TOPIC, OTHER_TOPIC])
    body = json.loads(sign(message()))
    confirming = json.loads(sign(question(Subject="x")))
    for forged in (
        body | {"TopicArn": OTHER_TOPIC},
        {name: value for name, value in body.items() if name != "Subject"},
        body | {"Type": "UnsubscribeConfirmation", "Token": "t", "SubscribeURL": CONFIRM},
        confirming | {"Type": "UnsubscribeConfirmation"},
        confirming | {"Type": "Notification"},
    ):
        assert code_of(made.verify(delivery(json.dumps(forged).encode()), NOW)) == (
            "signature_mismatch"
        )


def test_every_changed_digit_of_the_signature_is_refused() -> None:
    body = json.loads(sign(message()))
    text = body["Signature"]
    made = scheme()
    for place in range(0, len(text), 7):
        changed = "A" if text[place] != "A" else "B"
        forged = body | {"Signature": text[:place] + changed + text[place + 1 :]}
        code = code_of(made.verify(delivery(json.dumps(forged).encode()), NOW))
        assert code in {"signature_mismatch", "signature_malformed"}


@pytest.mark.parametrize("name", ["MessageId", "Subject"])
def test_the_border_between_two_fields_cannot_be_moved(name: str) -> None:
    # Genuinely signed bytes, of which a part is taken for another field.
    fields = message(**{name: "a\nb"})
    assert code_of(verify(fields)) == "field_malformed"
    moved = message(Message="a\nMessageId\nforged", MessageId="b")
    body = json.loads(sign(moved))
    forged = body | {"Message": "a", "MessageId": "forged\nMessageId\nb"}
    assert code_of(scheme().verify(delivery(json.dumps(forged).encode()), NOW)) == (
        "field_malformed"
    )


def test_a_field_that_is_there_twice_is_refused_for_another_decoder_may_take_the_first() -> None:
    body = sign(message())
    for forged in (
        b'{"Message": "forged", ' + body[1:],
        b'{"MessageAttributes": {"a": 1, "a": 2}, ' + body[1:],
    ):
        assert code_of(scheme().verify(delivery(forged), NOW)) == "field_repeated"


@pytest.mark.parametrize(("version", "code"), [("1", "version_unsupported"), ("2", "verified")])
def test_sha1_can_be_switched_off(version: str, code: str) -> None:
    assert code_of(verify(message(SignatureVersion=version), with_sha1=False)) == code


@pytest.mark.parametrize("claimed", ["1", "2"])
def test_the_version_cannot_be_changed_afterwards(claimed: str) -> None:
    other = {"1": "2", "2": "1"}[claimed]
    body = json.loads(sign(message(SignatureVersion=other))) | {"SignatureVersion": claimed}
    assert code_of(scheme().verify(delivery(json.dumps(body).encode()), NOW)) == (
        "signature_mismatch"
    )


# --- the time ---


@pytest.mark.parametrize(
    ("late_by", "code"),
    [
        (-301, "timestamp_too_far"),
        (-300, "verified"),
        (3600, "verified"),
        (TOLERANCE, "verified"),
        (TOLERANCE + 1, "timestamp_too_far"),
    ],
)
def test_the_signed_time_may_be_as_old_as_sns_goes_on_trying(late_by: float, code: str) -> None:
    assert code_of(verify(message(), NOW + late_by)) == code


@pytest.mark.parametrize("text", ["", "1779460951", "2026-05-22", "2026-05-22T14:42:31"])
def test_a_time_that_is_none_is_refused(text: str) -> None:
    assert code_of(verify(message(Timestamp=text))) == "timestamp_malformed"


# --- topics ---


def test_only_the_topics_that_are_allowed_may_send_and_the_verdict_says_which() -> None:
    assert verify(message(), topics=[OTHER_TOPIC, TOPIC]) == Verified(1)
    strange = verify(message(), topics=[OTHER_TOPIC])
    assert code_of(strange) == "topic_not_allowed"
    late = Secret(TOPIC, starts=NOW + 1)
    assert code_of(verify(message(), topics=[late])) == "topic_not_allowed"


@pytest.mark.parametrize("is_known", [True, False])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"Message": "forged"},
        {"Type": "Unknown"},
        {"Timestamp": "soon"},
        {"SignatureVersion": "3"},
        {"Signature": "?"},
        {"SigningCertURL": "https://sns.eu-west-1.amazonaws.com/other.pem"},
        {"SigningCertURL": "https://sns.eu-central-1.amazonaws.com/other.pem"},
        {"SigningCertURL": "https://evil.example/other.pem"},
        {"MessageId": "a\nb"},
    ],
)
def test_nobody_can_try_which_topics_are_allowed(changes: dict[str, Any], is_known: bool) -> None:
    """What is not genuine is answered in the same way, whatever its topic is."""
    made = scheme(topics=[TOPIC]) if is_known else SNS([TOPIC])
    signature = {"Signature": "A" * 344, **changes}

    answers = []
    for topic in (TOPIC, OTHER_TOPIC):
        body = json.dumps(json.loads(sign(message())) | {"TopicArn": topic} | signature).encode()
        verdict = made.verify(delivery(body), NOW)
        assert not isinstance(verdict, Verified)
        answers.append(verdict._replace(cause="") if isinstance(verdict, Refused) else verdict)
    assert answers[0] == answers[1]


def test_the_log_says_that_a_topic_is_not_allowed_and_the_answer_does_not() -> None:
    body = json.dumps(json.loads(sign(message())) | {"TopicArn": OTHER_TOPIC}).encode()
    verdict = scheme(topics=[TOPIC]).verify(delivery(body), NOW)
    assert isinstance(verdict, Refused)
    assert verdict.code == "signature_mismatch"
    assert verdict.cause == "the topic is not among the topics of this source"
    assert "topic" not in verdict.detail


def test_nothing_is_requested_from_a_region_of_which_no_topic_is_allowed() -> None:
    elsewhere = TOPIC.replace("eu-west-1", "eu-central-1")
    url = URL.replace("eu-west-1", "eu-central-1")
    fields = message(TopicArn=elsewhere, SigningCertURL=url)
    assert code_of(SNS([TOPIC]).verify(delivery(sign(fields)), NOW)) == "signature_mismatch"
    assert SNS([elsewhere]).verify(delivery(sign(fields)), NOW) == NeedsCertificate(url)


@pytest.mark.parametrize(
    "topic",
    [
        "",
        "orders",
        TOPIC + "\n",
        TOPIC + ":x",
        TOPIC.replace("eu-west-1", "s3"),
        "arn:aws:sqs:" * 2,
        TOPIC.replace("eu-west-1", "evil.com/"),
        TOPIC.replace("arn:aws:", "arn:evil:"),
    ],
)
def test_a_topic_that_is_none_does_not_start(topic: str) -> None:
    with pytest.raises(SettingsError):
        SNS([topic])


def test_a_source_without_a_topic_does_not_start() -> None:
    with pytest.raises(SettingsError):
        SNS([])


def test_china_and_government_have_their_own_hosts() -> None:
    for topic, host, name in (
        (
            "arn:aws-cn:sns:cn-north-1:123456789012:t",
            "sns.cn-north-1.amazonaws.com.cn",
            "sns-cn-north-1.amazonaws.com.cn",
        ),
        (
            "arn:aws-us-gov:sns:us-gov-east-1:123456789012:t",
            "sns.us-gov-east-1.amazonaws.com",
            "sns-us-gov-west-1.amazonaws.com",
        ),
        (
            "arn:aws:sns:me-south-1:123456789012:t",
            "sns.me-south-1.amazonaws.com",
            "sns-signing.me-south-1.amazonaws.com",
        ),
    ):
        url = f"https://{host}/a.pem"
        made, body = SNS([topic]), sign(message(TopicArn=topic, SigningCertURL=url))
        assert made.verify(delivery(body), NOW) == NeedsCertificate(url)
        assert made.learn(url, ISSUER.issue([name], KEY), NOW) is None
        assert made.verify(delivery(body), NOW) == Verified(0)


# --- names, and what is explained ---


def test_a_message_has_its_signed_id_and_its_topics_name_as_type() -> None:
    assert names_in(sign(message())) == ("22b80b92-fdea-4c2c-8f9d-bdfb0c7bf324", "orders")
    unsubscribed = names_in(sign(question(Type="UnsubscribeConfirmation")))
    assert unsubscribed is not None
    assert unsubscribed.type == "UnsubscribeConfirmation"
    assert names_in(b"[]") is None


def test_each_step_can_be_told() -> None:
    told: list[str] = []
    assert scheme().explain(delivery(sign(message())), NOW + 60, told.append) == Verified(0)
    assert told[0] == (
        "signed time: 2026-05-22T14:42:31.500Z, 60 s old; 3900 s old and 300 s ahead are tolerated"
    )
    assert told[1] == f"certificate: {URL}, known"
    assert told[2].startswith("signed content: ")


# --- whatever comes ---


@given(body=st.binary())
def test_any_body_is_refused(body: bytes) -> None:
    assert isinstance(scheme().verify(delivery(body), NOW), Refused)


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@given(
    fields=st.dictionaries(st.sampled_from([*SIGNED["Notification"], "SigningCertURL"]), _json),
    signature_text=st.text(),
    learnt=st.binary(),
)
def test_any_field_ends_in_a_refusal(
    fields: dict[str, Any], signature_text: str, learnt: bytes
) -> None:
    made = SNS([TOPIC])
    body = json.dumps(message() | {"Signature": signature_text} | fields).encode()
    verdict = made.verify(delivery(body), NOW)
    assert isinstance(verdict, Refused) or verdict == NeedsCertificate(URL)
    assert made.learn(URL, learnt, NOW) is not None
    assert made.learn(URL, b"-----BEGIN CERTIFICATE-----" + learnt + CERTIFICATE[30:], NOW)
    assert not isinstance(scheme().verify(delivery(body), NOW), Verified)
