"""SNS: what is signed, which topics and hosts count, and which certificates."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA1, SHA256, HashAlgorithm
from hypothesis import given, settings
from hypothesis import strategies as st
from multidict import CIMultiDict

from hookmill.errors import SettingsError
from hookmill.signatures.certificates import MAX_AGE, MAX_CERTIFICATES
from hookmill.signatures.scheme import (
    NeedsCertificate,
    NetworkScheme,
    NetworkVerdict,
    Refused,
    Secret,
    Signed,
    Verified,
)
from hookmill.signatures.sns import SNS, TOLERANCE, names_in
from tests.authority import DAY, Issuer, damaged, rsa_key, self_signed, short_key, signature

NOW = 1_779_460_951.5
TIME = "2026-05-22T14:42:31.500Z"
TOPIC = "arn:aws:sns:eu-west-1:123456789012:orders"
OTHER_TOPIC = "arn:aws:sns:eu-west-1:123456789012:invoices"
HOST = "sns.eu-west-1.amazonaws.com"
URL = f"https://{HOST}/SimpleNotificationService-7ff5318490ec183fbaddaa2a969abfda.pem"
CONFIRM = f"https://{HOST}/?Action=ConfirmSubscription&TopicArn={TOPIC}&Token=2336412f37fb687f"
SIGNED = {
    "Notification": ("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"),
    "SubscriptionConfirmation": (
        *("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"),
    ),
}
KEY = rsa_key("sns")
ISSUER = Issuer("Trusted", NOW)
CERTIFICATE = ISSUER.issue(["sns.amazonaws.com"], KEY)


def message(**changes: Any) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "Type": "Notification",
        "MessageId": "22b80b92-fdea-4c2c-8f9d-bdfb0c7bf324",
        "TopicArn": TOPIC,
        "Subject": "An order",
        "Message": '{"order": 7}\nand a second line',
        "Timestamp": TIME,
        "SignatureVersion": "2",
        "SigningCertURL": URL,
        "UnsubscribeURL": f"https://{HOST}/?Action=Unsubscribe",
    }
    fields |= changes
    return {name: value for name, value in fields.items() if value is not None}


def question(**changes: Any) -> dict[str, Any]:
    fields = {
        "Type": "SubscriptionConfirmation",
        "Subject": None,
        "Token": "2336412f37fb687f",
        "SubscribeURL": CONFIRM,
        "Message": "You have chosen to subscribe",
    }
    return message(**(fields | changes))


def sign(fields: dict[str, Any], key: Any = KEY) -> bytes:
    """Sign as SNS does, whatever stands in the fields."""
    digest: HashAlgorithm = SHA256() if fields["SignatureVersion"] == "2" else SHA1()
    names = SIGNED.get(fields["Type"], SIGNED["SubscriptionConfirmation"])
    content = "".join(f"{name}\n{fields[name]}\n" for name in names if name in fields)
    made = base64.b64encode(signature(key, content.encode("utf-8", "surrogatepass"), digest))
    return json.dumps(fields | {"Signature": made.decode()}).encode()


def delivery(body: bytes) -> Signed:
    return Signed(CIMultiDict(), body)


def scheme(**options: Any) -> SNS:
    made = SNS(options.pop("topics", [TOPIC]), **options)
    assert made.learn(URL, CERTIFICATE, NOW) is None
    return made


def verify(fields: dict[str, Any], now: float = NOW, **options: Any) -> NetworkVerdict:
    return scheme(**options).verify(delivery(sign(fields)), now)


def code_of(verdict: NetworkVerdict) -> str:
    if isinstance(verdict, NeedsCertificate):
        return "needs_certificate"
    return verdict.code if isinstance(verdict, Refused) else "verified"


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


# --- where the certificate may be had from ---

PATH = "/SimpleNotificationService-1.pem"
ELSEWHERE = [
    f"http://{HOST}{PATH}",
    f"HTTPS://{HOST}{PATH}",
    f"https://{HOST}.evil.com{PATH}",
    f"https://{HOST}.{PATH}",
    f"https://{HOST.upper()}{PATH}",
    f"https://{HOST}:443{PATH}",
    f"https://{HOST}:8443{PATH}",
    f"https://{HOST}@evil.com{PATH}",
    f"https://evil.com@{HOST}{PATH}",
    f"https://user:pw@{HOST}{PATH}",
    f"https://evil.com/{HOST}{PATH}",
    f"https://evil.com#{HOST}{PATH}",
    f"https://evil.com\\{HOST}{PATH}",
    f"https://evil.com\\@{HOST}{PATH}",
    f"https://{HOST}\\@evil.com{PATH}",
    f"https://xsns.eu-west-1.amazonaws.com{PATH}",
    f"https://sns.eu-west-1.amazonaws.com.cn{PATH}",
    f"https://sns.us-east-1.amazonaws.com{PATH}",  # SNS, but not this topic's
    f"https://sns.s3.amazonaws.com{PATH}",
    f"https://sns.s3-eu-west-1.amazonaws.com{PATH}",  # anybody's bucket
    f"https://sns-eu-west-1.amazonaws.com{PATH}",
    f"https://sns.eu-west-1amazonaws.com{PATH}",
    f"https://sns.eu-west-1.amazonaws\u3002com{PATH}",
    f"https://\uff53ns.eu-west-1.amazonaws.com{PATH}",
    f"https://sns.eu\u2011west\u20111.amazonaws.com{PATH}",
    f"https://127.0.0.1{PATH}",
    f"https://[::1]{PATH}",
    f"https:/{HOST}{PATH}",
    f"https:{HOST}{PATH}",
    f"//{HOST}{PATH}",
    f" https://{HOST}{PATH}",
    f"https://{HOST}{PATH}\n",
    f"https://{HOST}{PATH} ",
    f"https://{HOST}{PATH}?x=.pem",
    f"https://{HOST}{PATH}#.pem",
    f"https://{HOST}/?x=/a.pem",
    f"https://{HOST}/redirect?to=https://evil.com/a.pem",
    f"https://{HOST}/a.pem/../b",
    f"https://{HOST}/../a.pem",
    f"https://{HOST}//evil.com/a.pem",
    f"https://{HOST}/a%2e.pem",
    f"https://{HOST}/a.crt",
    f"https://{HOST}/a.PEM",
    f"https://{HOST}/.pem",
    f"https://{HOST}",
    f"https://{HOST}/" + "a" * 300 + ".pem",
    "https:///a.pem",
    "file:///etc/passwd.pem",
    "",
]


@pytest.mark.parametrize("url", ELSEWHERE)
def test_a_certificate_elsewhere_is_refused_before_anything_is_fetched(url: str) -> None:
    body = sign(message(SigningCertURL=url))
    assert code_of(SNS([TOPIC]).verify(delivery(body), NOW)) == "certificate_elsewhere"
    assert code_of(SNS([TOPIC]).learn(url, CERTIFICATE, NOW) or Verified(0)) == (
        "certificate_malformed"
    )


# --- certificates ---


@pytest.mark.parametrize(
    ("pem", "code"),
    [
        (b"", "certificate_malformed"),
        (b"<html>come back later</html>", "certificate_malformed"),
        (
            b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            "certificate_malformed",
        ),
        (ISSUER.issue(["sns.amazonaws.com"], KEY, ends=-1), "certificate_expired"),
        (ISSUER.issue(["sns.amazonaws.com"], KEY, starts=10), "certificate_not_yet_valid"),
        (self_signed("sns.amazonaws.com", KEY, NOW), "certificate_untrusted"),
        (ISSUER.issue(["sns.amazonaws.com.evil.com"], KEY), "certificate_not_theirs"),
        (ISSUER.issue(["*.amazonaws.com"], KEY), "certificate_not_theirs"),
        (ISSUER.issue(["sns.us-east-1.amazonaws.com"], KEY), "certificate_not_theirs"),
        (ISSUER.pem, "certificate_not_theirs"),
        (ISSUER.issue(["sns.amazonaws.com"], short_key()), "certificate_weak"),
        (
            ISSUER.issue(["sns.amazonaws.com"], ec.generate_private_key(ec.SECP256R1())),
            "certificate_weak",
        ),
    ],
)
def test_a_certificate_that_is_no_good_is_refused_and_not_remembered(pem: bytes, code: str) -> None:
    made = SNS([TOPIC])
    refused = made.learn(URL, pem, NOW)
    assert refused is not None
    assert refused.code == code
    assert made.verify(delivery(sign(message())), NOW) == NeedsCertificate(URL)


def test_a_certificate_with_another_key_does_not_verify() -> None:
    made = SNS([TOPIC])
    assert made.learn(URL, ISSUER.issue(["sns.amazonaws.com"], rsa_key("other")), NOW) is None
    assert code_of(made.verify(delivery(sign(message())), NOW)) == "signature_mismatch"


def test_a_certificate_counts_for_its_own_url_alone() -> None:
    other = f"https://{HOST}/other.pem"
    assert code_of(verify(message(SigningCertURL=other))) == "needs_certificate"


def test_a_certificate_is_forgotten_after_a_day_or_when_it_ends() -> None:
    patient = {"tolerance": 1e9}
    assert verify(message(), NOW + MAX_AGE - 1, **patient) == Verified(0)
    assert verify(message(), NOW + MAX_AGE, **patient) == NeedsCertificate(URL)
    made = SNS([TOPIC], **patient)  # type: ignore[arg-type]
    assert made.learn(URL, ISSUER.issue(["sns.amazonaws.com"], KEY, ends=DAY / 2), NOW) is None
    assert made.verify(delivery(sign(message())), NOW + DAY / 2 - 2) == Verified(0)
    assert made.verify(delivery(sign(message())), NOW + DAY / 2) == NeedsCertificate(URL)


def test_few_certificates_are_remembered() -> None:
    made = scheme()
    for number in range(3 * MAX_CERTIFICATES):
        assert made.learn(f"https://{HOST}/{number}.pem", CERTIFICATE, NOW) is None
    assert len(made._keys) == MAX_CERTIFICATES
    assert made.verify(delivery(sign(message())), NOW) == NeedsCertificate(URL)


# --- confirming, names, explaining ---


def test_the_url_that_confirms_is_given_for_what_asks_and_for_nothing_else() -> None:
    made = scheme()
    assert made.confirmation_of(sign(question())) == CONFIRM
    assert made.confirmation_of(sign(message())) is None
    # GETting that one would subscribe again.
    assert made.confirmation_of(sign(question(Type="UnsubscribeConfirmation"))) is None
    assert made.confirmation_of(b"{}") is None


@pytest.mark.parametrize(
    "url",
    [
        CONFIRM.replace("https", "http"),
        CONFIRM.replace(HOST, "169.254.169.254"),
        CONFIRM.replace(HOST, f"{HOST}.evil.com"),
        CONFIRM.replace(HOST, f"{HOST}:444"),
        CONFIRM.replace(HOST, f"evil@{HOST}"),
        CONFIRM.replace(HOST, f"{HOST}@evil.com"),
        CONFIRM.replace(HOST, "sns.us-east-1.amazonaws.com"),
        CONFIRM.replace("ConfirmSubscription", "DeleteTopic"),
        CONFIRM.replace(TOPIC, OTHER_TOPIC),
        CONFIRM.replace("/?", "/x?"),
        CONFIRM + "&Action=DeleteTopic",
        CONFIRM + "&Other=1",
        CONFIRM + "#x",
        CONFIRM + " ",
        "",
    ],
)
def test_a_question_that_leads_elsewhere_is_refused_though_it_is_signed(url: str) -> None:
    body = sign(question(SubscribeURL=url))
    assert code_of(scheme().verify(delivery(body), NOW)) == "confirmation_elsewhere"
    assert scheme().confirmation_of(body) is None


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


@given(edits=st.lists(st.tuples(st.integers(0, 4000), st.integers(0, 255)), min_size=1, max_size=4))
@settings(max_examples=500)
def test_a_damaged_certificate_raises_nothing(edits: list[tuple[int, int]]) -> None:
    refused = SNS([TOPIC]).learn(URL, damaged(CERTIFICATE, edits), NOW)
    assert refused is None or isinstance(refused, Refused)
