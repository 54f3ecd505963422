"""Messages as SNS signs them, with the authority that issues its certificate."""

from __future__ import annotations

import base64
import json
from typing import Any

from cryptography.hazmat.primitives.hashes import SHA1, SHA256, HashAlgorithm
from multidict import CIMultiDict

from hookmill.signatures.scheme import NeedsCertificate, NetworkVerdict, Refused, Signed
from hookmill.signatures.sns import SNS
from tests.authority import Issuer, rsa_key, signature

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
