"""Judges secrets that several sources have in common: each then accepts what the other's sender
signs. No I/O, and no secret is shown.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator

from hookmill.admin.findings import Finding
from hookmill.admin.source_checks import CERTIFIED, SourceFacts
from hookmill.config.source_options import QSTASH
from hookmill.errors import HookmillError
from hookmill.signatures.keys import key_of


def judge_shared_secrets(sources: Iterable[SourceFacts]) -> Iterator[Finding]:
    """Name the sources that share a secret.

    QStash's sources do so by design: one pair of keys signs all, and each token names its URL. SNS
    and PayPal have public names in place of secrets.
    """
    owners: defaultdict[bytes, set[str]] = defaultdict(set)
    for source in sources:
        if source.preset not in QSTASH and source.preset not in CERTIFIED:
            for digest in _digests(source):
                owners[digest].add(source.name)
    for names in sorted({tuple(sorted(names)) for names in owners.values() if len(names) > 1}):
        yield Finding(
            level="warning",
            what=f"a secret is shared by several sources: {', '.join(names)}",
            why="where they sign in the same way, each accepts a delivery that was meant for "
            "another, under another message ID, so that it runs once more",
            do="have each sender make a secret of its own, or use one source with one path",
        )


def _digests(source: SourceFacts) -> set[bytes]:
    """Return the digests of its keys, so that two spellings of one key are the same."""
    found = set()
    for secret in source.secrets:
        key = secret.text.encode("utf-8", "surrogatepass")
        if source.spec is not None:
            try:
                key = key_of(source.spec, secret.text)
            except HookmillError:  # it is reported as a fault of its source
                continue
        found.add(hashlib.sha256(key).digest())
    return found
