"""With several partitions, `hookmill check` names the sources of which an ID can run twice."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import redis

from hookmill.admin.checkup import check
from hookmill.admin.findings import Finding
from hookmill.admin.id_checks import judge_ids
from hookmill.admin.source_checks import SourceFacts
from hookmill.config.settings import Settings
from hookmill.signatures.presets import PRESETS
from tests.support import CURRENT_KEY, Stream, message

Names = tuple[str, ...] | None


def facts(name: str, ordered_by: str | None = None, named: Names = None) -> SourceFacts:
    preset = PRESETS.get(name)
    spec = preset.spec if preset else None
    return SourceFacts(name, name, f"/{name}", spec, named, (), (), ordered_by)


def named(*sources: SourceFacts, partitions: int = 4) -> list[str]:
    return [one.what for one in judge_ids(sources, partitions)]


KEY = "an ID that comes again with another ordering key may run twice: "
BODY = "an ID that comes again with another body may run twice: "


@pytest.mark.parametrize(
    ("sources", "expected"),
    [
        ([facts("stripe")], []),
        ([facts("sns")], []),
        ([facts("stripe", "data.id"), facts("github", "repository.id")], [f"{KEY}stripe, github"]),
        ([facts("github"), facts("qstash"), facts("stripe")], [f"{BODY}github, qstash"]),
        ([facts("github", named=("body",)), facts("qstash", named=("body",))], []),
        ([facts("github"), facts("stripe", "data.id")], [f"{KEY}stripe", f"{BODY}github"]),
        ([], []),
    ],
)
def test_sources_are_named_whose_partition_is_not_decided_by_their_id_alone(
    sources: list[SourceFacts], expected: list[str]
) -> None:
    assert named(*sources) == expected
    assert named(*sources, partitions=1) == []


async def test_check_counts_the_partitions_that_there_are(
    settings: Callable[..., Settings], server: object, redis_client: redis.Redis, prefix: str
) -> None:
    ours = settings(qstash_current_signing_key=CURRENT_KEY)
    for partitions, expected in ((1, []), (4, [f"{BODY}qstash"])):
        for key in redis_client.scan_iter(f"{prefix}:*"):
            redis_client.delete(key)
        stream = Stream(ours.need_redis_url(), prefix, partitions=partitions)
        await stream.append([message()])
        await stream.close()
        found: list[Finding] = await check(ours)
        assert [one.what for one in found if "may run twice" in one.what] == expected
