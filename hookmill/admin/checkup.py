"""`hookmill check` without its printing: gathers facts of server and sources, returns findings."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager

from hookmill.admin.access_checks import judge_access
from hookmill.admin.cluster_checks import (
    judge_nodes,
    judge_sentinels,
    judge_spread,
    judge_unseen,
)
from hookmill.admin.connection_checks import judge_connections
from hookmill.admin.dead_letter_checks import judge_dead_letters
from hookmill.admin.findings import Finding, worst_first
from hookmill.admin.group_checks import judge_groups
from hookmill.admin.id_checks import judge_ids
from hookmill.admin.id_rates import GivenRates, by_source, needs_shares
from hookmill.admin.memory_checks import judge_bound, judge_needs
from hookmill.admin.opening import open_stream
from hookmill.admin.rates import RateReader, received_by_source
from hookmill.admin.secret_checks import judge_shared_secrets
from hookmill.admin.server_checks import judge_server
from hookmill.admin.settings_checks import (
    judge_open_files,
    judge_partitions,
    judge_settings,
)
from hookmill.admin.source_checks import SourceFacts, judge_sources
from hookmill.admin.type_checks import judge_types
from hookmill.config.settings import Settings
from hookmill.config.source_options import preset_of, spec_of
from hookmill.config.sources import check_source, names_of
from hookmill.errors import SettingsError, StreamUnavailableError
from hookmill.runtime.open_files import limit
from hookmill.stream.client import Client
from hookmill.stream.facts import Overview, ServerFacts
from hookmill.stream.inspector import Inspector
from hookmill.stream.rates import DAY
from hookmill.stream.sentinel import sentinel_facts
from hookmill.stream.server_inspector import ServerInspector
from hookmill.stream.topology import server_list_of


@asynccontextmanager
async def inspecting(settings: Settings) -> AsyncIterator[Inspector]:
    """Open an inspector of the settings' server."""
    async with await open_stream(settings) as client:
        yield Inspector(client)


async def _came_in_a_day(
    client: Client, rate: GivenRates | None, settings: Settings
) -> Mapping[str, int]:
    """Return how many messages came of each source, where that counts and is known."""
    if rate is None or not needs_shares(rate, settings):
        return {}
    try:
        return (await RateReader().read(client, DAY)).total(received_by_source)
    except StreamUnavailableError:
        return {}  # other findings say what is wrong with the server


async def check(settings: Settings, rate: GivenRates | None = None) -> list[Finding]:
    """Judge settings, sources and server; the worst findings come first.

    With a `rate` of messages a second, say what it would cost in memory. A server that cannot be
    used is a finding, too.
    """
    findings = [*judge_settings(settings), *judge_open_files(limit(hard=True), settings)]
    sources = facts_of(settings)
    findings += judge_sources(sources, time.time(), development=settings.development)
    findings += judge_types(sources)
    findings += judge_shared_secrets(sources)
    findings += judge_access(settings.need_redis_url())
    try:
        async with await open_stream(settings) as client:
            looking = ServerInspector(client)
            servers, idle = await looking.servers(), looking.idle()
            overview = await Inspector(client).overview()
            came = await _came_in_a_day(client, rate, settings)
            agreed = await client.agreed_partitions() if not overview.unseen else client.total
        sentinels = await sentinel_facts(settings.need_redis_url())
    except StreamUnavailableError as error:
        findings.append(_unusable(error))
    else:
        findings += _judge_servers(servers, overview, settings)
        findings += judge_spread(servers, idle, overview)
        findings += judge_unseen(overview.unseen)
        findings += judge_sentinels(sentinels, servers[0], settings) if sentinels else ()
        findings += judge_partitions(agreed, settings)
        total, rates = (rate.total, by_source(rate, settings, came)) if rate else (None, ())
        findings += judge_needs(overview, settings, total, rates)
        findings += judge_groups(overview, settings)
        findings += judge_dead_letters(overview, settings)
        findings += judge_ids(sources, overview.partitions)
    return worst_first(findings)


def _unusable(error: StreamUnavailableError) -> Finding:
    return Finding(
        level="error",
        what=f"Redis cannot be used: {error}",
        why="receivers answer 503, and workers wait",
        do="check that it runs, that REDIS_URL names it, and that the user may use it",
    )


def _judge_servers(
    servers: Sequence[ServerFacts], overview: Overview, settings: Settings
) -> Iterator[Finding]:
    if server_list_of(settings.need_redis_url()).kind == "cluster":
        yield from judge_nodes(servers, overview, settings)
        return
    for server in servers:
        yield from judge_server(server, settings)
        yield from judge_connections(server, overview)
        yield from judge_bound(server, overview, settings)


def findings_of(error: SettingsError) -> list[Finding]:
    """Return the faults of settings that cannot be read as findings."""
    return [
        Finding(
            level="error",
            what=fault,
            why="neither a receiver nor a worker starts with it",
            do="fix it, then check again: nothing else was judged",
        )
        for fault in error.faults
    ]


def facts_of(settings: Settings) -> list[SourceFacts]:
    """Gather the facts of each source; this reads its secrets."""
    return [_facts_of(name, settings) for name in names_of(settings)]


def _facts_of(name: str, settings: Settings) -> SourceFacts:
    options = settings.options_of(name)
    checked = check_source(name, settings)
    return SourceFacts(
        name,
        preset_of(name, options),
        settings.path_of(name),
        spec_of(name, options),
        options.id,
        checked.secrets,
        checked.faults,
        options.ordered_by,
    )
