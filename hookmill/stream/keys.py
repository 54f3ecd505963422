"""The names of the keys in Redis. No I/O.

docs/reference/redis-keys.md lists what each key holds. Names never change, because a new release
must find the messages that an older one has stored.
"""

from __future__ import annotations

from typing import NamedTuple


class Keys:
    """The names of one partition's keys. On one server the hash tag in braces is its number. In
    Redis Cluster it is `tag`, which decides where the partition's keys lie.

    Those keys by which workers are woken lie together for all partitions on one server, so that a
    waiting worker is blocked on few keys: an append costs the server time for each blocked worker
    and each of its keys. In a cluster a script may use one tag only, so each partition has its own.
    """

    def __init__(self, prefix: str, partition: int = 0, tag: str | None = None) -> None:
        self.before = f"{prefix}:"
        self.base = f"{prefix}:{{{partition if tag is None else tag}}}"
        self.stream = f"{self.base}:stream"
        self.index = f"{self.base}:index"
        self.probe = f"{self.base}:probe"
        self.backlog = f"{self.base}:backlog"
        self.tokens = f"{self.base}:tokens"
        self.certificate_urls = f"{self.base}:certificate-urls"
        self._wake_base = f"{prefix}:{{0}}" if tag is None else self.base
        self.wake = f"{self._wake_base}:wake"
        self.groups = f"{self.base}:groups"
        self.redact = f"{self.base}:redact"
        self.refused = f"{self.base}:refused"
        self.audit = f"{self.base}:audit"
        self.log_levels = f"{self.base}:log-levels"
        self.rates = f"{self.base}:rates"
        self.partitions = f"{self.base}:partitions"
        self.none = f"{self.base}:none"
        # A script that goes through all groups builds the names of their keys from these parts.
        group = self.of_group("\0")
        before = group.again.split("\0")[0]
        named = (
            group.again,
            group.delayed,
            group.parked,
            group.counts,
            group.busy,
            group.low_water,
            group.paused,
        )
        self.group_parts = [before, *(key.split("\0")[1] for key in named)]

    def of_group(self, group: str) -> GroupKeys:
        """Return the names of the keys of one consumer group in this partition."""
        base = f"{self.base}:{group}"
        shared = f"{self._wake_base}:{group}"
        return GroupKeys(
            stream=self.stream,
            again=f"{base}:again",
            moves=f"{base}:again:moves",
            delayed=f"{base}:delayed",
            delayed_entries=f"{base}:delayed:entries",
            sooner=f"{shared}:sooner",
            dead=f"{base}:dead",
            dead_reasons=f"{base}:dead:reasons",
            dead_recount=f"{base}:dead:recount",
            owners=f"{base}:owners",
            low_water=f"{base}:low-water",
            suspects=f"{base}:suspects",
            busy=f"{base}:busy",
            parked=f"{base}:parked",
            paused=f"{base}:paused",
            sweep=f"{base}:sweep",
            counts=f"{base}:counts",
            replays=f"{base}:replays",
            history=f"{base}:history",
            gate=f"{base}:gate",
            upkeep=f"{base}:upkeep",
            heartbeats=f"{base}:heartbeats",
            heartbeat_times=f"{base}:heartbeats:times",
            lease_numbers=f"{base}:lease-numbers",
            stacks=f"{base}:stacks",
            looks=f"{base}:looks",
            watched=f"{base}:watched",
            deliveries=f"{base}:deliveries",
            first_sights=f"{base}:first-sights",
            wake=f"{shared}:wake",
            due=f"{shared}:due",
            releaser=f"{shared}:releaser",
        )


class GroupKeys(NamedTuple):
    """The names of the keys that one consumer group uses in one partition.

    Heartbeats, stacks, looks and first sights are not about a partition: they lie in partition 0.
    Wake-ups, and what tells when delayed messages are due, lie together for all partitions on one
    server. Only release 0.1 writes `sweep`.
    """

    stream: str
    again: str
    moves: str
    delayed: str
    delayed_entries: str
    sooner: str
    dead: str
    dead_reasons: str
    dead_recount: str
    owners: str
    low_water: str
    suspects: str
    busy: str
    parked: str
    paused: str
    sweep: str
    counts: str
    replays: str
    history: str
    gate: str
    upkeep: str
    heartbeats: str
    heartbeat_times: str
    lease_numbers: str
    stacks: str
    looks: str
    watched: str
    deliveries: str
    first_sights: str
    wake: str
    due: str
    releaser: str

    @property
    def own(self) -> list[str]:
        """The group's own keys. More of them begin with one of these and a colon: the lists of
        parked and of paused messages, the buckets of owners, and the lists of a history.
        """
        before = self.again.removesuffix("again")
        return [key for key in self if key.startswith(before)]
