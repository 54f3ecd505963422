"""The topics of SNS: their ARNs, and which URLs are at SNS in the region of a topic. No I/O."""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import parse_qsl

from hookmill.errors import SettingsError

_TOPIC = re.compile(
    r"arn:(aws|aws-cn|aws-us-gov):sns:([a-z0-9-]{3,32}):[0-9]{12}:([A-Za-z0-9_-]{1,256}(?:\.fifo)?)"
)
_PATH = re.compile(r"/[A-Za-z0-9_-]{1,200}\.pem")
_QUERY = re.compile(r"/\?[A-Za-z0-9_.:=&%-]{1,2000}")


class Topic(NamedTuple):
    """A topic of SNS, and the host of its region."""

    host: str
    region: str
    suffix: str
    name: str


def topic_of(arn: str) -> Topic:
    """Return the topic of an ARN. Raises `SettingsError` if it is none."""
    topic = parsed(arn)
    if topic is None:
        raise SettingsError(
            ["a topic of an SNS source is no ARN: write arn:aws:sns:REGION:ACCOUNT:NAME"]
        )
    return topic


def parsed(arn: str) -> Topic | None:
    """Return the topic of an ARN; None if it is none."""
    match = _TOPIC.fullmatch(arn)
    if match is None:
        return None
    suffix = "amazonaws.com.cn" if match[1] == "aws-cn" else "amazonaws.com"
    return Topic(f"sns.{match[2]}.{suffix}", match[2], suffix, match[3])


def signers_of(topic: Topic) -> set[str]:
    """Return the names in SNS' certificates, which depend on the region."""
    region = "us-gov-west-1" if topic.region.startswith("us-gov-") else topic.region
    names = ("sns", f"sns-{region}", f"sns.{topic.region}", f"sns-signing.{topic.region}")
    return {f"{name}.{topic.suffix}" for name in names}


def is_certificate(url: str, topic: Topic) -> bool:
    """Return whether a URL is that of a certificate of SNS in the topic's region."""
    start = f"https://{topic.host}"
    return url.startswith(start) and bool(_PATH.fullmatch(url, len(start)))


def is_confirmation(url: str, topic: Topic, arn: str) -> bool:
    """Return whether a URL asks SNS to confirm a subscription of this topic, and nothing else."""
    start = f"https://{topic.host}"
    if not url.startswith(start) or not _QUERY.fullmatch(url, len(start)):
        return False
    query = parse_qsl(url.partition("?")[2], keep_blank_values=True)
    asked = dict(query)
    return (
        len(asked) == len(query)
        and asked.keys() == {"Action", "TopicArn", "Token"}
        and (asked["Action"], asked["TopicArn"]) == ("ConfirmSubscription", arn)
    )
