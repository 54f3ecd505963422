"""The rules that keep the guarantees, how to remove each one, and the tests that then fail.

    make rules                     all of them
    make rules ARGS='3 7'          rules 3 and 7
    python -m tests.rules 3 7

A rule prevents an order of events that loses a message or runs it twice. Its tests have to force
that order of events, and only a run without the rule shows whether they do. So for each entry of
the table, this program makes the edits in a copy of the tree and runs the tests there. Every one of
them has to fail. The table is the first half of this file.
"""

# Long because: most of it is one table, with one entry for each part of a rule.

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent

AT_A_TIME = 2
EMBEDDED_ALONE = str(Path(sys.executable).parent)
"""A PATH without other servers, because one server is enough to see a test fail."""

TIME_LIMIT = 150.0
"""Seconds for the tests of one entry. Each of its tests has a third of that."""


class Edit(NamedTuple):
    """A text that occurs exactly once in a file, and the text that replaces it."""

    file: str
    old: str
    new: str


class Rule(NamedTuple):
    """A rule, or a part of one: its number, what it says, the edits that remove it, and the tests
    that have to fail without it.
    """

    number: int
    says: str
    edits: tuple[Edit, ...]
    tests: tuple[str, ...]


def lua(script: str, old: str, new: str) -> Edit:
    """Return an edit of one of the Lua scripts."""
    return Edit(f"hookmill/stream/scripts/{script}.lua", old, new)


PAUSES = "tests/stream/test_pauses.py::test_"
HISTORY = "tests/stream/test_history.py::test_"
A_LIST = "tests/signatures/test_spec_verifier.py::test_a_list_of_signatures_"
ADMIN_REQUEST = "tests/runtime/test_admin_request.py::test_"
ADMIN_SERVER = "tests/runtime/test_admin_server.py::test_"
SOURCE_TABLE = "tests/receiver/test_source_table.py::test_"
FILE_LOOKS = "tests/receiver/test_file_looks.py::test_"
REVOCATION = "tests/receiver/test_revocation.py::test_"
SOURCE_SECRETS = "tests/config/test_source_secrets.py::test_"
ATTEMPT = "tests/worker/test_attempt.py::test_"
TRACES = "tests/receiver/test_traces.py::test_"
RIGHTS = "tests/e2e/test_rights.py::test_"
CONSOLE = "tests/console/test_app.py::test_"
SUMS = "tests/runtime/test_summed_metrics.py::test_"
SUPERVISOR = "tests/runtime/test_supervisor.py::test_"
LISTENING = "tests/receiver/test_listening.py::test_"
CONSOLE_ACCESS = "tests/console/test_access.py::test_"
CREDENTIALS = "tests/emulator/test_credentials.py::test_"
DEV = "tests/e2e/test_dev.py::test_"
DEV_FILES = "tests/config/test_dev_files.py::test_"
EMBEDDED = "tests/runtime/test_embedded_redis.py::test_"
EMULATOR = "tests/emulator/test_main.py::test_"
ENVIRONMENT = "tests/dev/test_environment.py::test_"
GUARD = "tests/emulator/test_guard.py::test_"
ORIGINS = "tests/emulator/test_origins.py::test_"
RECEIVER = "tests/receiver/test_main.py::test_"
SOURCES = "tests/config/test_sources.py::test_"
ONLY_PUBLIC = "tests/sending/test_only_public.py::test_"
PUBLIC = "tests/sending/test_public_addresses.py::test_"
ASIDE = "tests/stream/test_ordering_aside.py::test_"
UNKNOWN_TYPES = "tests/e2e/test_unknown_types.py::test_"
FIRST_SIGHTS = "tests/stream/test_first_sights.py::test_"
SIGHTS = "tests/worker/test_unknown_types.py::test_"
ATTEMPT_THREADS = "tests/worker/test_attempt_threads.py::test_"
BACKLOG = "tests/stream/test_backlog.py::test_"
APPEND = "tests/stream/test_producer.py::test_"
DELAYED = "tests/worker/test_delayed.py::test_"
DEAD_LETTERS = "tests/stream/test_dead_letters.py::test_"
DRAINER = "tests/receiver/test_drainer.py::test_"
FREED = "tests/receiver/test_freed_memory.py::test_of_messages_that_"
DRAIN_PACE = "tests/receiver/test_drain_pace.py::test_"
ALIVE = "tests/e2e/test_heartbeats.py::test_"
HEALTH = "tests/receiver/test_health.py::test_"
HEARTBEAT = "tests/worker/test_heartbeat.py::test_"
HEARTBEATS = "tests/stream/test_heartbeats.py::test_"
GROUPS = "tests/stream/test_groups.py::test_"
REPLAY_PAGES = "tests/console/test_replay_pages.py::test_"
REPLAYS = "tests/stream/test_replays.py::test_"
ADMIN_REPLAYS = "tests/admin/test_replays.py::test_"
GROUPS_DROPPED = "tests/stream/test_groups_dropped.py::test_"
UNKNOWN_GROUP = "tests/worker/test_unknown_group.py::test_"
HEADS = "tests/stream/test_ordering_heads.py::test_"
FORMS = "tests/signatures/test_forms.py::test_"
IN_BODIES = "tests/signatures/test_body_places.py::test_"
INTAKE = "tests/receiver/test_intake.py::test_"
GROUP_CHECKS = "tests/admin/test_group_checks.py::test_"
LEASES = "tests/worker/test_leases.py::test_"
LOOKS = "tests/stream/test_looks.py::test_"
RELEASE = "tests/stream/test_consumer_release.py::test_"
LOOKS_MODEL = "tests/stream/test_looks_model.py::test_"
ORDERING = "tests/stream/test_ordering.py::test_"
ENDED_CONNECTIONS = "tests/receiver/test_ended_connections.py::test_"
HELD_BY_CONNECTIONS = "tests/receiver/test_held_by_connections.py::test_"
WAITING_REQUESTS = "tests/receiver/test_waiting_requests.py::test_"
SENDER_CONNECTIONS = "tests/receiver/test_connections.py::test_"
CAPACITY = "tests/receiver/test_capacity.py::test_"
CERTIFICATE_MEMORY = "tests/receiver/test_certificate_memory.py::test_"
CHECKUP = "tests/admin/test_checkup.py::test_"
PARTITIONS = "tests/stream/test_partitions.py::test_"
POOL = "tests/worker/test_pool.py::test_"
SETTLE_COPIES = "tests/stream/test_settle_copies.py::test_"
SETTLER = "tests/worker/test_settler.py::test_"
RECEIVED = "tests/receiver/test_pipeline.py::test_"
POOL_FAULTS = "tests/worker/test_pool_faults.py::test_"
POOL_BYTES = "tests/worker/test_pool_bytes.py::test_"
POOL_TAKEOVER = "tests/worker/test_pool_takeover.py::test_"
DEAD_REASONS = "tests/stream/test_dead_reasons.py::test_"
DEAD_BOUNDS = "tests/worker/test_dead_letter_bounds.py::test_"
PROCESS_END = "tests/worker/test_process_end.py::test_"
CONSUMPTION = "tests/worker/test_consumption.py::test_"
STACKS = "tests/worker/test_stacks.py::test_"
STUCK = "tests/worker/test_stuck_threads.py::test_"
WAITING = "tests/worker/test_waiting.py::test_"
SLOW = f"{ATTEMPT_THREADS}a_plain_function_beyond_its_timeout_"
SPOOL = "tests/receiver/test_spool.py::test_"
SPOOL_FAULTS = "tests/receiver/test_spool_faults.py::test_"
SPOOL_PARTITIONS = "tests/receiver/test_spool_partitions.py::test_"
KEYS = "tests/stream/test_keys.py::test_"
OWNERS = "tests/stream/test_owners.py::test_"
WINDOWS = "tests/stream/test_owners_windows.py::test_"
APART = "tests/stream/test_owners_windows_apart.py::test_"
SOURCE_WINDOWS = "tests/stream/test_source_windows.py::test_"
SCRIPTS = "tests/stream/test_script_runner.py::test_"
SETTLE = "tests/stream/test_consumer_settle.py::test_"
UNDELIVERABLE = "tests/stream/test_undeliverable.py::test_"
UPKEEP = "tests/stream/test_upkeep.py::test_"
COUNTED = "tests/e2e/test_counted_deliveries.py::test_"
CONSUMER_FAULTS = "tests/stream/test_consumer_faults.py::test_"
TAKEOVER_FAULTS = "tests/worker/test_takeover_faults.py::test_"
RECOVERY = "tests/worker/test_takeover_recovery.py::test_"
CLUSTER = "tests/stream/test_cluster.py::test_"
STREAM_LEASES = "tests/stream/test_leases.py::test_"
STREAM_TAKEOVER = "tests/stream/test_consumer_takeover.py::test_"
SLOTS = "tests/worker/test_slots.py::test_"
SUSPECTS = "tests/worker/test_suspects.py::test_"
SWITCH = "tests/peers/test_switch.py::test_"
TAKE_BYTES = "tests/stream/test_take_bytes.py::test_"
DIRECT = "tests/stream/test_direct_reads.py::test_"
DIRECT_FAULTS = "tests/stream/test_direct_reads_faults.py::test_"
TAKEOVER = "tests/worker/test_takeover.py::test_"
WAKE_UP = "tests/stream/test_wakeup.py::test_"
OPEN_CONNECTIONS = "tests/stream/test_open_connections.py::test_"
WHOLE_TAKES = "tests/stream/test_whole_takes.py::test_"
WHOLE = "tests/e2e/test_rules.py::test_"

HANDLERS = "tests/test_handlers.py::test_"
HOSTILE = "tests/e2e/test_hostile_texts.py::test_"
PRINTABLE = "tests/test_printable.py::test_"
FORWARDING = "tests/admin/test_forwarding.py::test_"
KEEPER = "tests/receiver/test_refused.py::test_"
KEPT = "tests/debug/test_refusals.py::test_"
REFUSED = "tests/stream/test_refused.py::test_"
REDACTION = "tests/test_redaction.py::test_"
REDACTIONS = "tests/admin/test_redactions.py::test_"
SHORT_WINDOWS = "tests/config/test_windows.py::test_"
SNS = "tests/signatures/test_sns.py::test_"

IS_OURS = "return #redis.call('XPENDING', KEYS[which], group, id, id, 1, consumer) == 1"
SHARED = "string.gsub({}, ':[^:]+:again$', ':stream')"

RULES = (
    # --- 1: settlement is fenced -----------------------------------------------------------
    Rule(
        1,
        "consumer names are unique per process start",
        (
            Edit(
                "hookmill/runtime/process.py",
                'return f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"',
                "return socket.gethostname()",
            ),
        ),
        (f"{WHOLE}a_worker_that_was_stopped_past_its_lease_changes_nothing_when_it_wakes_up",),
    ),
    Rule(
        1,
        "a renewal acts only on entries still pending for its consumer",
        (
            lua(
                "renew",
                "if #redis.call('XPENDING', key, group, id, id, 1, consumer) == 1 then",
                "if true then",
            ),
        ),
        (
            f"{LEASES}a_lost_lease_is_reported_and_left_with_its_new_holder",
            f"{WHOLE}a_worker_that_was_stopped_past_its_lease_changes_nothing_when_it_wakes_up",
        ),
    ),
    Rule(
        1,
        "what a worker says of its stacks answers the request that counts, and no earlier one",
        (
            lua(
                "stacks_say",
                "if redis.call('HGET', KEYS[1], asked) ~= ARGV[2] then return end",
                "",
            ),
        ),
        ("tests/stream/test_stacks.py::test_an_answer_to_an_earlier_request_is_none_to_this_one",),
    ),
    Rule(
        1,
        "a worker's stacks are shown without lines of source, which may hold a secret",
        (Edit("worker/stacks.py", "_threads(calls, _brief),", "_threads(calls, _whole),"),),
        (f"{STACKS}it_names_places_and_neither_values_nor_lines_of_source",),
    ),
    Rule(
        1,
        "a settlement acts only on entries still pending for its consumer",
        (lua("settle", IS_OURS, IS_OURS.replace(", consumer", "")),),
        (
            f"{SETTLE}a_late_outcome_without_success_is_dropped_and_reported",
            f"{POOL_TAKEOVER}a_retry_after_the_takeover_does_not_disturb_the_new_holder",
            f"{WHOLE}a_worker_that_was_stopped_past_its_lease_changes_nothing_when_it_wakes_up",
        ),
    ),
    Rule(
        1,
        "a settlement writes its follow-up entries only if it acknowledges the entry",
        (lua("settle", IS_OURS, "return true"),),
        (
            f"{SETTLE}a_settlement_whose_reply_was_lost_may_be_sent_again",
            f"{POOL_TAKEOVER}a_settlement_whose_answer_is_lost_is_carried_out_once",
        ),
    ),
    Rule(
        1,
        "a late success acknowledges",
        (
            lua(
                "settle",
                "    settle(which, unpack(ARGV, first, at))\n",
                "    for i = first, at do\n"
                "      local id = ARGV[i]\n"
                "      local mine = redis.call('XPENDING', KEYS[which], group, id, id, 1,\n"
                "        consumer)\n"
                "      if #mine == 1 then settle(which, id) end\n"
                "    end\n",
            ),
        ),
        (f"{SETTLE}a_late_done_acknowledges",),
    ),
    Rule(
        1,
        "a late retry or dead letter is counted",
        (lua("settle", "if #late > 0 then", "if false then"),),
        (f"{SETTLE}a_late_outcome_without_success_is_dropped_and_reported",),
    ),
    # --- 2: only receivers append to the shared stream ---------------------------------------
    Rule(
        2,
        "a retry and a fan-out go to the group's own stream",
        (
            lua(
                "settle",
                "add_again(fields)\n    note_finished",
                "redis.call('XADD', KEYS[1], '*', unpack(fields))\n    note_finished",
            ),
        ),
        (f"{SETTLE}what_a_group_takes_again_no_other_group_sees",),
    ),
    Rule(
        2,
        "a delayed message goes to the group's own stream",
        (
            lua(
                "release",
                "add_again(cmsgpack.unpack(packed))",
                f"redis.call('XADD', {SHARED.format('KEYS[1]')}, '*', "
                "unpack(cmsgpack.unpack(packed)))",
            ),
        ),
        (f"{SETTLE}what_a_group_takes_again_no_other_group_sees",),
    ),
    Rule(
        2,
        "a replay goes to the group's own stream",
        (
            lua(
                "replay",
                "add_again(kept)",
                f"redis.call('XADD', {SHARED.format('again_key')}, '*', unpack(kept))",
            ),
        ),
        (f"{SETTLE}what_a_group_takes_again_no_other_group_sees",),
    ),
    Rule(
        2,
        "an entry of the group's own stream carries the token of the first entry with its ID",
        (lua("taking", "if token == '' then token = id end", "token = id"),),
        (
            f"{OWNERS}an_entry_with_its_owners_token_runs_again",
            f"{OWNERS}several_handlers_of_one_message_are_no_duplicates_of_each_other",
        ),
    ),
    Rule(
        2,
        "all keys of a partition have its hash tag",
        (
            Edit(
                "hookmill/stream/keys.py",
                'base = f"{self.base}:{group}"',
                'base = f"{self.base.partition(chr(123))[0]}:{group}"',
            ),
        ),
        (f"{KEYS}all_keys_of_a_partition_share_its_hash_tag",),
    ),
    # --- 3: after an outage, renew first -----------------------------------------------------
    Rule(
        3,
        "the time before and after an ask that failed does not count",
        (
            Edit(
                "worker/takeover.py",
                "watches, self._watches = self._watches, None",
                "watches = self._watches",
            ),
        ),
        (f"{TAKEOVER}the_time_before_and_after_a_look_that_failed_does_not_count",),
    ),
    Rule(
        3,
        "after an outage of half a lease all ages start again",
        (
            Edit(
                "worker/takeover.py",
                "if before is None or asked - before > self._lease / 2:",
                "if False:",
            ),
        ),
        (f"{TAKEOVER}after_an_outage_of_half_a_lease_all_ages_begin_anew",),
    ),
    Rule(
        3,
        "a takeover that was sent before an outage takes nothing of a worker of 0.1 after it",
        (lua("silence", "since <= math.max(lease / 2, 1000) and lease or nil", "lease"),),
        (f"{STREAM_TAKEOVER}a_takeover_that_is_carried_out_after_an_outage_takes_nothing",),
    ),
    Rule(
        3,
        "a recovery skips what this worker holds",
        (
            Edit("hookmill/stream/takes.py", "if ref.partition == partition", "if False"),
            Edit("worker/held.py", "if entry.ref not in self.entries", "if True"),
        ),
        (f"{POOL_TAKEOVER}a_recovery_leaves_alone_what_is_held_and_unsettled",),
    ),
    Rule(
        3,
        "a takeover claims no more than there are free slots",
        (
            Edit(
                "worker/pool.py",
                "self._takeover.take(count, self.held,",
                "self._takeover.take(100, self.held,",
            ),
        ),
        (
            f"{POOL_TAKEOVER}a_takeover_claims_no_more_than_there_are_free_slots_and_the_rest_is_for_others",
        ),
    ),
    Rule(
        3,
        "a pool without a free slot takes nothing",
        (
            Edit(
                "worker/pool.py",
                "if free == 0 and not self.may_run_suspect:",
                "if False:",
            ),
            Edit(
                "worker/pool.py",
                "count = min(self._take_size(), self._max_take)",
                "count = max(1, min(self._take_size(), self._max_take))",
            ),
        ),
        (
            f"{POOL_TAKEOVER}a_takeover_claims_no_more_than_there_are_free_slots_and_the_rest_is_for_others",
        ),
    ),
    Rule(
        3,
        "pools that share slots take turns",
        (Edit("worker/slots.py", "if self._line and in_turn and next(", "if False and next("),),
        (f"{SLOTS}a_pool_that_waits_keeps_its_place_until_it_has_had_its_turn",),
    ),
    Rule(
        3,
        "a pool whose Redis does not answer keeps no slot from another",
        (Edit("worker/slots.py", "self._give_up_later(share, self._keep_no_longer)", "pass"),),
        (f"{SLOTS}a_pool_whose_redis_does_not_answer_keeps_no_slot_from_another",),
    ),
    Rule(
        3,
        "a renewal names the entries that this worker holds, not all that are pending",
        (
            lua(
                "renew",
                "return lost",
                "for _, held in ipairs(redis.call('XPENDING', KEYS[1], group, '-', '+', 999,\n"
                "  consumer)) do\n"
                "  redis.call('XCLAIM', KEYS[1], group, consumer, 0, held[1], 'JUSTID')\n"
                "end\n"
                "return lost",
            ),
        ),
        (f"{LEASES}only_what_is_held_is_renewed",),
    ),
    # --- 4: a lost group restarts at its low-water mark ----------------------------------------
    Rule(
        4,
        "a lost group restarts at its mark, not at the beginning",
        (lua("open", "redis.call('GET', KEYS[3]) or '0'", "'0'"),),
        (
            f"{UPKEEP}a_lost_group_restarts_behind_what_it_had_finished",
            f"{POOL_FAULTS}a_lost_group_is_made_again",
        ),
    ),
    Rule(
        4,
        "the janitor stores the mark",
        (lua("trim", "redis.call('SET', mark, preceding(oldest))", ""),),
        (
            f"{UPKEEP}a_lost_group_restarts_behind_what_it_had_finished",
            f"{POOL_FAULTS}a_lost_group_is_made_again",
        ),
    ),
    Rule(
        4,
        "the mark is below the oldest unfinished entry, not at the last delivered one",
        (lua("trim", "preceding(oldest)", "group['last-delivered-id']"),),
        (
            f"{UPKEEP}a_lost_group_restarts_behind_what_it_had_finished",
            f"{UPKEEP}the_low_water_mark_lies_just_below_the_oldest_unfinished_entry",
        ),
    ),
    # --- 5: a full Redis can still be drained ----------------------------------------------------
    Rule(
        5,
        "the workers' scripts may exceed maxmemory",
        (Edit("hookmill/stream/script_runner.py", "None if self._drains else", ""),),
        (
            f"{SCRIPTS}a_full_redis_refuses_appends_and_can_still_be_drained",
            f"{WHOLE}a_full_redis_is_drained_by_its_workers_and_then_takes_deliveries_again",
        ),
    ),
    Rule(
        5,
        "before Redis 7.0, because their first write needs no memory",
        (
            Edit(
                "hookmill/stream/script_runner.py",
                "_WRITE_FIRST = \"redis.call('DEL', KEYS[1] .. ':none')\\n\"",
                '_WRITE_FIRST = ""',
            ),
        ),
        (f"{SCRIPTS}a_full_redis_refuses_appends_and_can_still_be_drained",),
    ),
    Rule(
        5,
        "the append refuses earlier, by the number of unfinished messages",
        (
            lua(
                "append",
                "if is_full(messages, bytes) then\n  local group",
                "if false then\n  local group",
            ),
        ),
        (
            f"{APPEND}an_append_is_refused_while_too_many_messages_are_unfinished",
            f"{RECEIVED}a_full_backlog_is_503_at_once_and_is_not_spooled",
        ),
    ),
    Rule(
        5,
        "and by their bytes",
        (lua("append", "(max_bytes > 0 and bytes >= max_bytes)", "false"),),
        (f"{APPEND}bytes_are_limited_too",),
    ),
    Rule(
        5,
        "never by the length of the stream, which counts retained messages too",
        (
            lua(
                "backlog",
                "local unread = math.min(lag, redis.call('XLEN', stream))",
                "local unread = redis.call('XLEN', stream)",
            ),
        ),
        (f"{APPEND}what_is_finished_but_retained_is_no_backlog",),
    ),
    Rule(
        5,
        "nor by what was there before the group was made",
        (lua("backlog", "math.min(unread, since or unread)", "unread"),),
        (f"{BACKLOG}what_came_before_a_group_was_made_is_not_its_backlog",),
    ),
    Rule(
        5,
        "the bytes are those of what is unfinished, not an average of all that came",
        (lua("settle", "if bytes > 0 then note_finished(count, bytes) end", ""),),
        (f"{BACKLOG}while_nothing_goes_wrong_no_entry_is_read_to_measure",),
    ),
    Rule(
        5,
        "a copy for each handler counts",
        (
            lua(
                "settle",
                "note_finished(-1, -weight_of(fields))\n    return 1",
                "return 1",
            ),
        ),
        (f"{BACKLOG}while_nothing_goes_wrong_no_entry_is_read_to_measure",),
    ),
    Rule(
        5,
        "where something was not noted, the bytes are counted again",
        (lua("backlog", "redis.call('HSET', names.counts, 'recount', '')", ""),),
        (f"{BACKLOG}entries_that_somebody_deletes_are_right_after_one_run_of_the_janitor",),
    ),
    Rule(
        5,
        "also where a janitor of release 0.1 has overwritten the counts",
        (
            lua(
                "backlog",
                "if not added or not kept or added - kept == messages then",
                "if true then",
            ),
        ),
        (f"{BACKLOG}what_a_janitor_of_release_0_1_overwrites_is_counted_again",),
    ),
    # --- 6: several handlers of one message, slow handlers ---------------------------------------
    Rule(
        6,
        "each of several handlers has its own entry, so only the one that failed runs again",
        (Edit("worker/attempt.py", "if len(matching) == 1:", "if matching:"),),
        (
            f"{POOL}messages_with_several_handlers_fail_and_succeed_for_each",
            f"{ATTEMPT}several_matching_handlers_get_an_entry_each",
        ),
    ),
    Rule(
        6,
        "delayed entries of several handlers of one message have the handler's name in their token",
        (
            Edit(
                "worker/settlement.py",
                'return f"{progress.owner}/{progress.handler}"',
                "return progress.owner",
            ),
        ),
        (f"{POOL}two_handlers_of_one_message_that_wait_do_not_take_each_others_place",),
    ),
    Rule(
        6,
        "a timed-out plain function keeps its slot and its lease until it returns",
        (
            Edit(
                "worker/threads.py",
                'log.warning("handler overruns its timeout in a thread", ',
                "raise TimeoutError(), (",
            ),
        ),
        (
            f"{SLOW}keeps_its_slot_and_is_done_when_it_ends_well",
            f"{WHOLE}a_handler_keeps_its_message_beyond_its_lease",
        ),
    ),
    Rule(
        6,
        "a thread renews the leases, because a blocked event loop cannot stop it",
        (
            Edit("worker/leases.py", "pause = self._renew()", "pause = self.period"),
            Edit(
                "worker/leases.py",
                "        self._last_beat = time.monotonic()\n        return self.period\n",
                "        self._last_beat = time.monotonic()\n"
                "        await __import__('asyncio').to_thread(self._renew)\n"
                "        return self.period\n",
            ),
        ),
        (
            f"{LEASES}leases_are_renewed_while_the_event_loop_is_blocked",
            f"{WHOLE}a_handler_keeps_its_message_beyond_its_lease",
        ),
    ),
    Rule(
        6,
        "but not for ever: while the loop is blocked for many leases, none is renewed",
        (Edit("worker/leases.py", "if blocked_for > MAX_BLOCKED * self._lease:", "if False:"),),
        (f"{LEASES}a_loop_that_is_blocked_for_many_leases_renews_no_more",),
    ),
    # --- 7: ordered mode -------------------------------------------------------------------------
    Rule(
        7,
        "while the head of a key runs, its key is blocked",
        (lua("order", "return not head or head == token", "return true"),),
        (
            f"{ORDERING}of_one_key_only_the_first_is_taken_and_other_keys_go_on",
            f"{ORDERING}what_is_parked_counts_as_unfinished_and_shows",
        ),
    ),
    Rule(
        7,
        "a key belongs to its head message, not to a worker",
        (lua("order", "return not head or head == token", "return not head"),),
        (
            f"{ORDERING}a_dead_workers_keys_move_on",
            f"{ORDERING}a_retry_blocks_only_its_own_key",
        ),
    ),
    Rule(
        7,
        "the block does not expire",
        (
            lua(
                "order",
                "if not head then redis.call('HSET', busy_key, key, '1 ' .. token) end",
                "if not head then redis.call('HSET', busy_key, key, '1 ' .. token) end\n"
                "  redis.call('PEXPIRE', busy_key, 50)",
            ),
        ),
        (f"{ORDERING}a_key_is_its_heads_for_as_long_as_that_takes",),
    ),
    Rule(
        7,
        "a follower is parked and its entry acknowledged, in one step",
        (lua("taking", "  acknowledge(which, group, id)\n  parked", "  parked"),),
        (
            f"{ORDERING}what_is_parked_counts_as_unfinished_and_shows",
            f"{ORDERING}a_parked_message_survives_trimming_and_keeps_every_field",
        ),
    ),
    Rule(
        7,
        "a message that waits for its retry blocks its key, also while it is delayed",
        (
            lua(
                "settle",
                "  return added\n",
                "  return 0\n",
            ),
        ),
        (f"{ORDERING}a_retry_blocks_only_its_own_key",),
    ),
    Rule(
        7,
        "and no other key",
        (
            lua(
                "owners",
                "if key ~= '' then key = (fields[places.source] or '') .. ':' .. key end",
                "if key ~= '' then key = fields[places.source] end",
            ),
            Edit(
                "hookmill/stream/entries.py",
                'return self.fields.get(b"source", b"") + b":" + key if key else b""',
                'return self.fields.get(b"source", b"") if key else b""',
            ),
        ),
        (
            f"{ORDERING}a_retry_blocks_only_its_own_key",
            f"{ORDERING}of_one_key_only_the_first_is_taken_and_other_keys_go_on",
        ),
    ),
    Rule(
        7,
        "the next message may run when every handler of the head has finished",
        (
            lua(
                "settle",
                "if new.kind ~= 'aside' then change = change + added end",
                "if new.kind ~= 'aside' then change = math.min(0, change + added) end",
            ),
        ),
        (f"{HEADS}the_next_waits_until_every_handler_of_the_head_is_through",),
    ),
    Rule(
        7,
        "a head that is done, discarded or dead releases the next one in the same step",
        (lua("settle", "    change_head(one.key, one.token, change)\n", ""),),
        (f"{ORDERING}a_finished_message_releases_the_next_and_a_requeued_one_does_not",),
    ),
    Rule(
        7,
        "followers are released in the order of their arrival",
        (lua("order", "redis.call('RPUSH'", "redis.call('LPUSH'"),),
        (f"{ORDERING}of_one_key_only_the_first_is_taken_and_other_keys_go_on",),
    ),
    Rule(
        7,
        "a replayed message goes behind all others of its key",
        (
            lua(
                "replay",
                "if not names[found[2][f]] then",
                "if not names[found[2][f]] and found[2][f] ~= 'key' then",
            ),
        ),
        (f"{HEADS}a_replayed_dead_letter_goes_to_the_tail",),
    ),
    Rule(
        7,
        "a late success releases no follower, because another worker runs the head",
        (
            lua(
                "settle",
                "local ours, change = is_ours(one.which, one.id), -1",
                "local ours, change = is_ours(one.which, one.id) or #one.follow_ups == 0, -1",
            ),
        ),
        (f"{ORDERING}a_late_success_does_not_let_the_next_overtake_a_second_run",),
    ),
    Rule(
        7,
        "an entry that was read directly runs only if it is its key's turn",
        (lua("direct_read", "was_read(id) and may_run(key, id)", "true"),),
        (f"{DIRECT}of_one_key_only_the_first_runs_and_the_others_come_in_their_order",),
    ),
    Rule(
        7,
        "a deleted entry of the index is no head of its key",
        (lua("direct_read", "was_read(id) and may_run(key, id)", "may_run(key, id)"),),
        (f"{DIRECT_FAULTS}a_deleted_entry_is_no_head_where_the_index_lacks_as_many",),
    ),
    Rule(
        7,
        "the index has the ordering keys",
        (lua("index", "if next(keys) or next(windows) then", "if false then"),),
        (f"{DIRECT}of_one_key_only_the_first_runs_and_the_others_come_in_their_order",),
    ),
    Rule(
        7,
        "a direct read that was not begun decides about nothing",
        (lua("direct_read", "if name ~= ARGV[7] then return 0 end", ""),),
        (f"{DIRECT}what_an_earlier_read_has_left_is_not_decided_about_once_more",),
    ),
    # --- 8: the partition follows what is signed -------------------------------------------------
    Rule(
        8,
        "the partition follows the ordering key",
        (Edit("hookmill/stream/arrival.py", "if message.key:", "if False:"),),
        (f"{PARTITIONS}the_partition_follows_the_key_then_the_signed_id_then_the_body",),
    ),
    Rule(
        8,
        "else the signed ID",
        (
            Edit(
                "hookmill/stream/arrival.py",
                "elif isinstance(message, Arrival) and message.id_is_signed:",
                "elif False:",
            ),
        ),
        (f"{PARTITIONS}the_partition_follows_the_key_then_the_signed_id_then_the_body",),
    ),
    Rule(
        8,
        "never an unsigned ID",
        (Edit("hookmill/stream/arrival.py", " and message.id_is_signed:", ":"),),
        (
            f"{PARTITIONS}the_partition_follows_the_key_then_the_signed_id_then_the_body",
            f"{PARTITIONS}a_token_is_found_whatever_header_comes_with_it",
            f"{INTAKE}no_header_that_is_added_moves_a_delivery_to_another_partition",
        ),
    ),
    Rule(
        8,
        "else the body",
        (
            Edit(
                "hookmill/stream/arrival.py",
                "self.partition_key or body_of(self.fields)",
                "self.partition_key",
            ),
        ),
        (f"{PARTITIONS}the_partition_follows_the_key_then_the_signed_id_then_the_body",),
    ),
    # --- 9: no ID, no dedup ----------------------------------------------------------------------
    Rule(
        9,
        "a delivery without an ID gets a fresh one: equal bytes are no duplicate",
        (Edit("receiver/intake.py", "else fresh_id())", "else str(hash(request.body)))"),),
        (
            f"{INTAKE}a_delivery_without_an_id_gets_a_fresh_one_each_time",
            f"{RECEIVED}two_deliveries_without_an_id_are_two_messages_although_their_bytes_are_the_same",
        ),
    ),
    Rule(
        9,
        'a source may choose id = "body"',
        (
            Edit(
                "hookmill/config/identity.py",
                "        return id_from_body(own)\n",
                "        return own\n",
            ),
        ),
        (f"{RECEIVED}key_and_id_are_stored_as_the_source_is_set",),
    ),
    # --- 10: signed tokens that expire -----------------------------------------------------------
    Rule(
        10,
        "the same token with another message ID is refused",
        (lua("append", "if redis.call('HGET', tokens, token) ~= digest then", "if false then"),),
        (
            f"{APPEND}a_token_is_good_for_one_message_id",
            f"{RECEIVED}a_copied_token_is_refused_with_another_id_and_accepted_with_its_own",
            f"{DRAINER}a_token_used_before_redis_went_away_is_refused_behind_the_spool",
        ),
    ),
    Rule(
        10,
        "the same token with the same message ID is a duplicate",
        (lua("append", "if redis.call('HGET', tokens, token) ~= digest then", "if true then"),),
        (
            f"{APPEND}a_token_is_good_for_one_message_id",
            f"{RECEIVED}a_copied_token_is_refused_with_another_id_and_accepted_with_its_own",
        ),
    ),
    Rule(
        10,
        "a token is remembered until it expires",
        (lua("append", "if lasts[tokens] < ms then", "if true then"),),
        (f"{APPEND}a_token_is_forgotten_when_it_has_expired_and_not_before",),
    ),
    Rule(
        10,
        "a failed append uses up no token",
        (
            lua(
                "append",
                "  if id.err then redis.call('HDEL', tokens, token) end",
                "",
            ),
        ),
        (f"{APPEND}a_token_is_not_spent_on_an_append_that_failed",),
    ),
    # --- 11: the spool ---------------------------------------------------------------------------
    Rule(
        11,
        "after a failed append, all messages of that partition are spooled until it is drained",
        (Edit("receiver/appender.py", "if spool.is_active else {}", "if False else {}"),),
        (f"{DRAINER}behind_what_is_spooled_everything_is_spooled_although_redis_is_back",),
    ),
    Rule(
        11,
        "by every process that shares the file",
        (
            Edit(
                "hookmill/runtime/spool_file.py",
                "return self.marker.exists()",
                "return self.marker.exists() and bool(self.db.total_changes)",
            ),
        ),
        (
            f"{SPOOL}it_is_active_from_the_first_put_until_it_is_empty_for_every_process_that_shares_it",
            f"{SPOOL}what_was_put_is_there_after_a_restart",
        ),
    ),
    Rule(
        11,
        "until the file is empty, not until Redis accepts its first messages",
        (
            Edit(
                "receiver/spool.py",
                "        appended = self._progress.note(batch, refused)\n        async with",
                "        appended = self._progress.note(batch, refused)\n"
                "        self._file.marker.narrow([])\n"
                "        async with",
            ),
        ),
        (f"{SPOOL}what_could_not_be_appended_stays_and_nothing_overtakes_it",),
    ),
    Rule(
        11,
        "a message that is spooled during the last batch is not forgotten",
        (
            Edit(
                "hookmill/runtime/spool_file.py",
                "            self.marker.add(partitions)\n\n    def put_behind",
                "            pass\n\n    def put_behind",
            ),
            Edit(
                "hookmill/runtime/spool_file.py",
                "        with self.writing():\n            self._insert(encoded)",
                "        self.marker.add(partitions)\n"
                "        with self.writing():\n            self._insert(encoded)",
            ),
        ),
        (f"{SPOOL}what_another_process_puts_during_the_last_batch_is_not_forgotten",),
    ),
    Rule(
        11,
        "only one process drains at a time, because two would mix the order",
        (
            Edit(
                "receiver/drain_lock.py", "fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)", "pass"
            ),
        ),
        (f"{SPOOL}only_one_process_drains_at_a_time",),
    ),
    Rule(
        11,
        "order holds per spool file",
        (
            Edit(
                "hookmill/runtime/spool_file.py",
                "batch.rows.append(row)",
                "batch.rows.insert(0, row)",
            ),
        ),
        (
            f"{SPOOL}what_was_put_is_drained_once_unchanged_and_in_order",
            f"{DRAINER}with_a_spool_deliveries_are_accepted_while_redis_is_away_and_follow_in_order",
        ),
    ),
    Rule(
        11,
        "a batch that was appended is not appended again, although its rows cannot be deleted",
        (
            Edit("receiver/spool.py", "span = progress.cursor, LAST", "span = 0, LAST"),
            Edit(
                "receiver/drain_progress.py",
                "return position > self.appended.get(row.partition(self.partitions), 0)",
                "return True",
            ),
        ),
        (f"{SPOOL_FAULTS}a_batch_whose_delete_failed_is_not_appended_again",),
    ),
    Rule(
        11,
        "nor by the next process, if this one dies before the delete",
        (
            Edit(
                "receiver/drain_lock.py",
                "os.pwrite(self._held, _FORMAT.pack(*position), partition * _FORMAT.size)",
                "pass",
            ),
        ),
        (f"{SPOOL_FAULTS}a_process_that_dies_between_append_and_delete_leaves_its_position",),
    ),
    Rule(
        11,
        "a remembered position counts only for the file that it was written for",
        (
            Edit(
                "receiver/drained_rows.py",
                "self._file.digest_of(position.number) == position.digest",
                "position.number",
            ),
        ),
        (f"{SPOOL_FAULTS}the_position_of_another_file_does_not_count",),
    ),
    Rule(
        11,
        "an append that was given up is not sent on behind a slow line",
        (
            Edit(
                "hookmill/stream/connections.py",
                "            _abort(self._writer)",
                "            pass",
            ),
        ),
        (f"{DRAIN_PACE}the_time_grows_until_a_message_passes_and_it_is_appended_once",),
    ),
    Rule(
        11,
        "a spooled message that cannot be read is set aside, and the rest is drained",
        (
            Edit(
                "receiver/spool.py",
                "            if batch.unreadable:\n                await self._set_aside",
                "            if batch.unreadable:\n                raise SpoolError\n"
                "                await self._set_aside",
            ),
        ),
        (f"{SPOOL_FAULTS}a_row_that_cannot_be_read_is_set_aside_and_the_rest_is_drained",),
    ),
    Rule(
        11,
        "a partition that refuses its spooled messages does not stop the others",
        (
            Edit(
                "receiver/spool.py",
                "while not self._progress.is_held_up:",
                "while not self._progress.held_up:",
            ),
        ),
        (
            f"{SPOOL_PARTITIONS}a_partition_that_refuses_its_messages_stops_no_other_and_keeps_its_order",
        ),
    ),
    Rule(
        11,
        "and none of its own messages overtakes those that wait",
        (
            Edit(
                "receiver/drain_progress.py",
                "return row.partition(self.partitions) not in self._held_up",
                "return True",
            ),
        ),
        (
            f"{SPOOL_PARTITIONS}what_follows_a_refused_message_does_not_overtake_it_where_the_partition_recovers",
        ),
    ),
    Rule(
        11,
        "also where another process sends them",
        (
            Edit(
                "hookmill/runtime/spool_marker.py",
                "return self.is_all or partition in self.partitions",
                "return self.is_all",
            ),
        ),
        (
            f"{SPOOL_PARTITIONS}a_partition_that_refuses_its_messages_stops_no_other_and_keeps_its_order",
        ),
    ),
    Rule(
        11,
        "also where a receiver of release 0.1 has spooled it, which writes no partition down",
        (
            Edit(
                "hookmill/runtime/spool_marker.py",
                "if not numbers or is_touched or not all(",
                "if not numbers or not all(",
            ),
        ),
        (f"{SPOOL_PARTITIONS}what_a_receiver_of_release_0_1_spools_beside_is_not_overtaken",),
    ),
    Rule(
        11,
        "the receiver is ready while the spool can be written, even if Redis is away",
        (
            Edit(
                "receiver/health.py",
                "if self._spool is None:",
                "if self._spool is None or trouble:",
            ),
        ),
        (f"{DRAINER}with_a_spool_deliveries_are_accepted_while_redis_is_away_and_follow_in_order",),
    ),
    Rule(
        11,
        "and not when the spool cannot be written either",
        (Edit("receiver/health.py", "await self._spool.probe()", "pass"),),
        (f"{DRAINER}a_full_spool_is_503_and_unready_until_it_is_drained",),
    ),
    # --- 12: a message that crashes its workers runs alone ---------------------------------------
    Rule(
        12,
        "a message that is taken over for the second time is a suspect",
        (
            lua("takeover", "deliveries >= 2 and 1 or 0", "0"),
            lua("takeover", "elseif deliveries < 2 then", "elseif true then"),
        ),
        (
            f"{STREAM_TAKEOVER}suspects_are_taken_over_one_at_a_time_after_all_others",
            f"{SUSPECTS}a_suspect_begins_when_nothing_else_runs_and_nothing_begins_beside_it",
        ),
    ),
    Rule(
        12,
        "a suspect waits until nothing else runs",
        (
            Edit(
                "worker/slots.py",
                "each.running or (each.runs_alone and each is not share)",
                "each.runs_alone and each is not share",
            ),
        ),
        (f"{SUSPECTS}a_suspect_begins_when_nothing_else_runs_and_nothing_begins_beside_it",),
    ),
    Rule(
        12,
        "and nothing begins beside it",
        (Edit("worker/slots.py", "if each.runs_alone or (", "if ("),),
        (f"{SUSPECTS}a_suspect_begins_when_nothing_else_runs_and_nothing_begins_beside_it",),
    ),
    Rule(
        12,
        "a suspect whose Redis does not answer keeps no other lane waiting",
        (Edit("worker/slots.py", "share.is_held_up = len(self._shares) > 1", "pass"),),
        (f"{SLOTS}a_suspect_whose_redis_does_not_answer_keeps_nothing_waiting",),
    ),
    Rule(
        12,
        "a suspect that came late runs alone, too",
        (
            Edit("worker/pool.py", " + [entry for entry in late if entry.is_suspect]", ""),
            Edit(
                "worker/pool.py", "for entry in late if not entry.is_suspect]", "for entry in late]"
            ),
        ),
        (f"{SLOTS}a_suspect_that_came_late_runs_alone_and_its_run_is_counted",),
    ),
    Rule(
        12,
        "only crashes while alone count",
        (Edit("worker/pool.py", "if times <= MAX_RUNS_ALONE:", "if False:"),),
        (
            f"{SUSPECTS}a_suspect_begins_when_nothing_else_runs_and_nothing_begins_beside_it",
            f"{SUSPECTS}a_message_that_kills_its_workers_is_not_blamed_on_others",
        ),
    ),
    Rule(
        12,
        "and their number is limited",
        (Edit("worker/pool.py", "if times <= MAX_RUNS_ALONE:", "if True:"),),
        (f"{SUSPECTS}what_ended_its_worker_three_times_while_alone_is_a_dead_letter",),
    ),
    Rule(
        12,
        "a suspect that is requeued does not count as a crash",
        (
            Edit(
                "worker/pool.py",
                "for entry in (*self._suspects, *self._late):",
                "for entry in self._late:",
            ),
        ),
        (f"{SUSPECTS}a_suspect_that_is_requeued_is_no_suspect_any_more",),
    ),
    Rule(
        12,
        "a suspect goes alone in a reply",
        (
            lua(
                "takeover",
                "suspect = suspect or { which, id, deliveries }",
                "claim(which, id, deliveries)",
            ),
        ),
        (f"{STREAM_TAKEOVER}suspects_are_taken_over_one_at_a_time_after_all_others",),
    ),
    Rule(
        12,
        "a lost reply to the count of a run does not count it twice",
        (
            lua(
                "alone",
                "if redis.call('HGET', KEYS[2], entry .. ' run') == ARGV[3] then",
                "if false then",
            ),
        ),
        (
            f"{SUSPECTS}lost_replies_to_the_count_of_runs_do_not_count",
            f"{COUNTED}lost_replies_to_the_count_of_runs_make_no_dead_letter",
        ),
    ),
    Rule(
        12,
        "a delivery that nobody confirms is counted where it is given out",
        (lua("takeover", "if seen == 1 and #runs == 1 then", "if false then"),),
        (f"{UNDELIVERABLE}an_undeliverable_entry_is_a_dead_letter_as_a_worker_would_write_it",),
    ),
    Rule(
        12,
        "one that a worker received does not count",
        (lua("confirm", "redis.call('HDEL', KEYS[1],", "redis.call('HGET', KEYS[1],"),),
        (
            f"{UNDELIVERABLE}only_deliveries_that_nobody_confirmed_count_and_only_where_an_entry_was_alone",
            f"{TAKEOVER}what_was_brought_is_confirmed_before_it_runs",
        ),
    ),
    Rule(
        12,
        "where the reply of a takeover is lost, the next one comes after a lease",
        (Edit("worker/takeover.py", "self._rests_until = now + self._lease", "pass"),),
        (
            f"{RECOVERY}where_the_reply_of_a_takeover_is_lost_it_is_asked_for_after_a_lease",
            f"{RECOVERY}what_no_worker_received_ten_times_is_a_dead_letter_after_ten_leases",
        ),
    ),
    Rule(
        12,
        "an undeliverable message is no longer pending, and its ordering key goes on",
        (lua("undeliverable", "  change_head(key, token, -1)\n", ""),),
        (
            f"{UNDELIVERABLE}behind_an_undeliverable_entry_its_ordering_key_goes_on_and_it_can_be_replayed",
        ),
    ),
    # --- 13: dedup generations -------------------------------------------------------------------
    Rule(
        13,
        "generations follow Redis' time, not the worker's",
        (
            Edit(
                "hookmill/stream/takes.py",
                "[*self._names, share, *rest]",
                "[*self._names, share, *rest, time.time()]",
            ),
            lua(
                "take",
                "local now_ms = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)",
                "local now_ms = ARGV[7] * 1000",
            ),
        ),
        (f"{OWNERS}a_worker_whose_clock_is_wrong_knows_what_came_before",),
    ),
    Rule(
        13,
        "an ID is looked up in the generation before as well",
        (lua("owners", "if gen.buckets > 0 then asked[#asked + 1] = gen end", "gen.span = 1"),),
        (f"{OWNERS}an_id_is_remembered_for_one_window_at_least_and_two_at_most",),
    ),
    Rule(
        13,
        "the number of a generation's buckets follows the size of the last generation",
        (
            lua(
                "owners",
                "math.max(FEWEST, math.floor(expected / PER_BUCKET))",
                "1",
            ),
        ),
        (f"{OWNERS}a_generations_buckets_follow_the_size_of_the_last_one",),
    ),
    Rule(
        13,
        "and grows with its own size",
        (
            lua(
                "owners",
                "if current.size > current.buckets * PER_BUCKET then grow(current) end",
                "",
            ),
        ),
        (f"{OWNERS}every_record_expires_and_keeps_the_compact_encoding",),
    ),
    Rule(
        13,
        "an entry that is taken again records its token in the current generation",
        (
            lua(
                "owners",
                "    if owner and owner ~= ours then",
                "    if owner == ours then\n"
                "      redis.call('HDEL', key, digest)\n"
                "      return true\n"
                "    end\n"
                "    if owner then",
            ),
        ),
        (f"{OWNERS}an_id_is_remembered_for_one_window_at_least_and_two_at_most",),
    ),
    Rule(
        13,
        "a worker with another window asks the generations that there are",
        (
            lua(
                "generations",
                "local into = #remembered < MOST_GENERATIONS and",
                "local into = gen.window == opened.window and",
            ),
        ),
        (
            f"{WINDOWS}while_the_window_changes_no_id_is_forgotten",
            f"{WINDOWS}a_changed_window_counts_from_the_next_generation_on",
        ),
    ),
    Rule(
        13,
        "a smaller window waits while two generations of larger ones are remembered",
        (lua("generations", "if remembered > 1 then", "if remembered > 99 then"),),
        (
            f"{WINDOWS}a_look_up_asks_three_generations_at_most_however_often_the_window_gets_smaller",
        ),
    ),
    Rule(
        13,
        "what a worker of 0.1 recorded is asked, whatever its window is",
        (
            lua(
                "generations",
                "  sort_out(unlisted_generations(listed), now, gens, forgotten)\n",
                "",
            ),
        ),
        (
            f"{WINDOWS}beside_workers_of_0_1_with_the_same_window_no_id_is_forgotten",
            f"{WINDOWS}what_0_1_recorded_is_known_with_another_window",
        ),
    ),
    Rule(
        13,
        "a step back of Redis' clock forgets no ID",
        (
            lua("generations", "if gen.forgotten > latest then", "if gen.ends > now then"),
            lua(
                "generations",
                "    local latest = now + 2 * gen.window\n",
                "    local latest = now\n",
            ),
        ),
        (
            f"{WINDOWS}an_id_is_known_after_the_clock_was_set_back",
            f"{WINDOWS}while_the_clock_steps_no_id_is_forgotten_before_its_time_and_all_of_them_end",
        ),
    ),
    Rule(
        13,
        "and none stays until a time that a wrong clock has named",
        (lua("generations", "if gen.forgotten > latest then", "if false then"),),
        (
            f"{WINDOWS}what_a_clock_far_ahead_recorded_does_not_stay_for_years",
            f"{WINDOWS}while_the_clock_steps_no_id_is_forgotten_before_its_time_and_all_of_them_end",
        ),
    ),
    Rule(
        13,
        "an ID is looked up under every window that sources have",
        (
            lua(
                "owners",
                "local gens = mains\n  if #apart > 0 then",
                "local gens = mains\n  if false then",
            ),
        ),
        (f"{APART}a_source_whose_window_changes_is_known_under_the_old_one",),
    ),
    Rule(
        13,
        "a window that is one too many is recorded under a longer one",
        (lua("windows", "if other >= width and", "if"),),
        (f"{APART}one_more_window_than_the_bound_goes_to_the_next_longer_one",),
    ),
    Rule(
        13,
        "a window of the workers does not let those of sources expire",
        (
            lua(
                "generations",
                "  for _, gen in ipairs(others) do last = math.max(last, gen.forgotten) end\n",
                "",
            ),
        ),
        (f"{APART}the_sizes_of_a_long_window_do_not_expire_with_the_workers_short_one",),
    ),
    Rule(
        13,
        "a direct read knows the windows of sources",
        (
            lua(
                "direct_read",
                "struct.pack('>I6I4', row.ms, seq), its_window)",
                "struct.pack('>I6I4', row.ms, seq))",
            ),
        ),
        (f"{SOURCE_WINDOWS}a_direct_read_records_the_same",),
    ),
    Rule(
        13,
        "a window is written only where every worker knows of it",
        (
            Edit(
                "hookmill/stream/arrival.py",
                "if message.window and wire_version == PACKED_VERSION:",
                "if message.window:",
            ),
        ),
        (
            "tests/stream/test_arrival.py::test_a_window_is_beside_the_message_only_where_every_worker_reads_version_3",
        ),
    ),
    Rule(
        13,
        "no source has a window that is longer than that of the workers",
        (Edit("hookmill/config/windows.py", "if window > most:", "if False:"),),
        ("tests/config/test_windows.py::test_the_window_of_all_is_the_longest",),
    ),
    Rule(
        13,
        "dropping a dead letter releases its ID",
        (lua("drop", "disown(generations, digest, token)", ""),),
        (f"{DEAD_LETTERS}a_dropped_dead_letter_releases_its_id",),
    ),
    Rule(
        13,
        "unless another entry owns the ID by now",
        (
            lua(
                "owners",
                "if redis.call('HGET', key, digest) == packed(token) then "
                "redis.call('HDEL', key, digest) end",
                "redis.call('HDEL', key, digest)",
            ),
        ),
        (f"{DEAD_LETTERS}an_id_that_another_entry_has_come_to_own_stays_with_it",),
    ),
    Rule(
        13,
        "an entry that was read directly runs only if it owns its ID",
        (lua("direct_read", "own(digest, struct.pack('>I6I4', row.ms, seq), its_window)", "true"),),
        (f"{DIRECT}a_duplicate_is_dropped_and_named",),
    ),
    Rule(
        13,
        "where the index has not all that was read, it is read once more",
        (
            lua(
                "index_rows",
                "local gaps, missing, from = {}, count - found, before",
                "local gaps, missing, from = {}, 0, before",
            ),
        ),
        (f"{DIRECT}what_an_older_release_appends_is_decided_about_as_well",),
    ),
    Rule(
        13,
        "what was read and not decided about does not run",
        (
            Edit("hookmill/stream/codec.py", "return at == len(rows)", "return True"),
            Edit(
                "hookmill/stream/codec.py",
                "(rows[at][0], rows[at + count - 1][0]) != (first, last)",
                "False",
            ),
        ),
        (
            "tests/stream/test_codec.py::test_what_a_direct_read_has_brought_counts_only_if_the_script_names_all_of_it",
        ),
    ),
    # --- 14: events without a handler, groups without a worker -----------------------------------
    Rule(
        14,
        "an event that this release does not know waits for a grace period",
        (Edit("worker/attempt.py", "if left <= 0:", "if True:"),),
        (
            f"{ATTEMPT}what_this_release_does_not_know_waits_for_one_that_does_and_is_kept",
            f"{WHOLE}a_message_that_an_old_release_does_not_know_is_handled_by_the_new_one",
        ),
    ),
    Rule(
        14,
        "the period counts from the first message of the type",
        (
            Edit(
                "worker/attempt.py",
                "left = self._grace - max(unknown_for, (now_ms - since_ms) / 1000)",
                "left = self._grace - (now_ms - since_ms) / 1000",
            ),
        ),
        (
            f"{UNKNOWN_TYPES}the_grace_period_counts_from_the_first_message_of_the_type",
            f"{SIGHTS}a_message_waits_for_the_rest_of_its_types_grace_period",
        ),
    ),
    Rule(
        14,
        "and anew while a living worker knows the type",
        (Edit("worker/unknown_types.py", "is_known = knows(", "is_known = False and knows("),),
        (f"{SIGHTS}a_type_that_a_living_worker_knows_is_known",),
    ),
    Rule(
        14,
        "or after one did that has gone",
        (
            Edit(
                "worker/lane.py",
                '            "first sights": self._unknown_types.forget_known,\n',
                "",
            ),
            Edit("worker/unknown_types.py", "is_known = knows(", "is_known = False and knows("),
        ),
        (f"{UNKNOWN_TYPES}the_grace_period_begins_anew_after_a_deploy_that_knew_the_type",),
    ),
    Rule(
        14,
        "a step of Redis' clock does not end it early",
        (lua("first_sight", "math.min(passed, most_growth)", "passed"),),
        (f"{FIRST_SIGHTS}a_step_of_redis_clock_ends_no_grace_period_early",),
    ),
    Rule(
        14,
        "while it waits it does not hold its ordering key",
        (
            lua(
                "settle",
                "if new.kind ~= 'aside' then change = change + added end",
                "change = change + added",
            ),
        ),
        (
            f"{ASIDE}what_is_set_aside_lets_the_next_run_and_comes_behind_all_others_of_its_key",
            f"{ASIDE}what_is_set_aside_holds_its_key_again_while_it_runs",
            f"{ASIDE}several_that_are_set_aside_again_and_again_hold_up_nothing",
            f"{UNKNOWN_TYPES}unknown_types_do_not_hold_up_the_messages_of_their_ordering_key",
        ),
    ),
    Rule(
        14,
        "a retry whose handler is missing does keep its key",
        (
            Edit(
                "worker/attempt.py",
                "keeps_key: bool = True,",
                "keeps_key: bool = False,",
            ),
        ),
        (f"{ATTEMPT}what_this_release_does_not_know_waits_for_one_that_does_and_is_kept",),
    ),
    Rule(
        14,
        "and then becomes a dead letter",
        (Edit("worker/attempt.py", "if left <= 0:", "if False:"),),
        (f"{ATTEMPT}what_this_release_does_not_know_waits_for_one_that_does_and_is_kept",),
    ),
    Rule(
        14,
        "it never disappears: only event types that handlers name are ignored",
        (Edit("worker/attempt.py", "if self._handlers.ignores(message.type):", "if True:"),),
        (
            f"{ATTEMPT}what_this_release_does_not_know_waits_for_one_that_does_and_is_kept",
            f"{WHOLE}a_message_that_an_old_release_does_not_know_is_handled_by_the_new_one",
        ),
    ),
    Rule(
        14,
        "a message of an unknown wire version waits in the same way",
        (
            Edit(
                "worker/attempt.py",
                "return Attempted(None, self._unknown(progress, error.code, str(error)))",
                "return Attempted(None, DeadLettered(progress, error.code, str(error)))",
            ),
        ),
        (f"{ATTEMPT}what_this_release_does_not_know_waits_for_one_that_does_and_is_kept",),
    ),
    Rule(
        14,
        "a receiver writes version 3 only while every worker reads it",
        (
            Edit(
                "receiver/wire_version.py",
                "if PACKED_VERSION in await self._readers.versions():",
                "if await self._readers.versions() is not None:",
            ),
        ),
        (
            "tests/receiver/test_wire_version.py::test_the_version_follows_the_workers_that_run",
            "tests/e2e/test_wire_versions.py::test_version_3_is_written_only_while_every_worker_reads_it",
        ),
    ),
    Rule(
        14,
        "a worker without a heartbeat may be one that does not read it",
        (
            Edit(
                "hookmill/stream/wire_readers.py",
                "if not found or await older.unknown(found):",
                "if not found:",
            ),
        ),
        (
            "tests/stream/test_wire_readers.py::test_a_worker_without_a_heartbeat_counts_until_it_is_gone_or_was_silent_for_long",
        ),
    ),
    Rule(
        14,
        "the spool holds what every receiver can drain and every worker can read",
        (
            Edit(
                "receiver/spool.py",
                "msgspec.msgpack.encode(row.in_version_2())",
                "msgspec.msgpack.encode(row)",
            ),
        ),
        (
            "tests/receiver/test_drainer.py::test_what_an_older_release_spooled_is_drained_before_what_this_one_adds",
        ),
    ),
    Rule(
        14,
        "a group without a worker raises an alarm",
        (
            Edit(
                "hookmill/admin/group_checks.py",
                "if group.pins(settings.lease):",
                "if False:",
            ),
        ),
        (
            f"{GROUP_CHECKS}a_group_with_work_and_no_workers_raises_an_alarm",
            f"{CHECKUP}a_group_without_workers_is_found_as_long_as_messages_wait_for_it",
        ),
    ),
    Rule(
        14,
        "functions that watch for dead letters are told only of those that this worker has stored",
        (
            Edit(
                "worker/settler.py",
                "if when_stored is not None and settlement.ref.id not in late:",
                "if when_stored is not None:",
            ),
        ),
        (
            f"{SETTLER}what_wants_to_know_is_told_after_the_write_and_only_of_outcomes_that_count",
            f"{SETTLER}where_the_reply_to_a_write_is_lost_nobody_is_told",
        ),
    ),
    Rule(
        14,
        "a consumer is removed only while it holds nothing, in one step",
        (lua("retire", "consumer['pending'] == 0 and ", ""),),
        (f"{UPKEEP}only_an_idle_and_empty_consumer_is_removed",),
    ),
    # --- 15: a budget of bytes -----------------------------------------------------------------
    Rule(
        14,
        "a message that the spool refuses is freed at once",
        (Edit("receiver/appender.py", "outcome = copy(error)", "outcome = error"),),
        (f"{FREED}the_spool_refuses",),
    ),
    Rule(
        14,
        "a message that Redis refuses is freed at once",
        (
            Edit(
                "hookmill/stream/connections.py",
                "replies.append(translated(error.with_traceback(None), self.pool))",
                "replies.append(translated(error, self.pool))",
            ),
        ),
        (f"{FREED}a_full_backlog_refuses",),
    ),
    Rule(
        15,
        "a take stops at the first entry that passes its budget",
        (lua("take", "while wanted > 0 and bytes < budget do", "while wanted > 0 do"),),
        (f"{TAKE_BYTES}a_take_stops_at_the_first_entry_that_passes_its_budget",),
    ),
    Rule(
        15,
        "and reads no more in a step than surely fits",
        (lua("take", "math.max(1, math.floor(left / largest))", "wanted"),),
        (
            f"{TAKE_BYTES}a_take_stops_at_the_first_entry_that_passes_its_budget",
            f"{TAKE_BYTES}where_the_largest_is_not_known_entries_are_read_one_by_one",
        ),
    ),
    Rule(
        15,
        "what is appended beside unfinished messages of an older release says nothing about those",
        (lua("largest", " or not largest and messages > 0", ""),),
        (f"{TAKE_BYTES}where_the_largest_is_not_known_entries_are_read_one_by_one",),
    ),
    Rule(
        15,
        "a message that is larger than what is noted is noted",
        (lua("take", "if noted and weight > largest then", "if false then"),),
        (f"{TAKE_BYTES}what_a_release_that_does_not_note_it_appends_is_noted_when_it_is_taken",),
    ),
    Rule(
        15,
        "so is one that is replayed",
        (lua("replay", "largest = note_largest(KEYS[5],", "local _ = tostring("),),
        (f"{TAKE_BYTES}a_replayed_dead_letter_counts_as_well",),
    ),
    Rule(
        15,
        "the size of the largest message stays while the stream has messages",
        (lua("backlog", "if redis.call('XLEN', stream) == 0 then", "if true then"),),
        (f"{TAKE_BYTES}the_largest_goes_when_the_stream_is_empty",),
    ),
    Rule(
        15,
        "of several partitions, one with a large message is asked alone",
        (
            lua(
                "take",
                "if is_shared and left < largest and may_have_more(which) then",
                "if false then",
            ),
        ),
        (f"{TAKE_BYTES}partitions_share_the_budget_and_do_not_pass_it",),
    ),
    Rule(
        15,
        "a gate that was left open is shut",
        (lua("direct_read", "redis.call('DEL', KEYS[8])", ""),),
        (f"{DIRECT_FAULTS}a_gate_that_was_left_open_is_shut_where_a_larger_entry_has_come",),
    ),
    Rule(
        15,
        "a direct read reads nothing where an entry may be larger than the worker believes",
        (
            lua(
                "direct_read",
                "if not noted or tonumber(noted) > tonumber(ARGV[6]) then return 0 end",
                "",
            ),
        ),
        (f"{DIRECT}an_entry_that_is_larger_than_all_before_is_not_read_beside_many_others",),
    ),
    Rule(
        15,
        "a worker takes nothing while what it holds uses up its budget",
        (Edit("worker/pool.py", "_is_resting or self._holdings.is_full:", "_is_resting:"),),
        (f"{POOL_BYTES}a_pool_takes_nothing_while_what_it_holds_uses_up_its_budget",),
    ),
    Rule(
        15,
        "a settlement is bounded by the bytes that Redis copies for it",
        (Edit("worker/settler.py", "size += settlement.written_bytes", "size += 0"),),
        (f"{SETTLER}huge_bodies_do_not_make_a_batch_that_stops_redis_for_long",),
    ),
    Rule(
        15,
        "Redis copies the fields of an entry, and what somebody deleted is sent",
        (Edit("hookmill/stream/codec.py", "one.fields if whole else {}", "{}"),),
        (f"{SETTLE_COPIES}what_somebody_deleted_is_sent_once_more",),
    ),
    # --- 16: who may be taken over from ----------------------------------------------------------
    Rule(
        16,
        "a holder is silent only after its number has stood still for a lease",
        (lua("silence", "if not age or tonumber(age) < lease then", "if not age then"),),
        (
            f"{TAKEOVER}what_a_silent_worker_held_is_taken_over_after_one_lease_and_not_before",
            f"{TAKEOVER}a_worker_that_renews_keeps_what_it_holds",
            f"{LOOKS_MODEL}who_renews_is_never_silent_and_who_stopped_is_found",
        ),
    ),
    Rule(
        16,
        "a number that has risen begins a new age",
        (lua("watch", "seen ~= number or watched_ms < 0", "not seen or watched_ms < 0"),),
        (
            f"{TAKEOVER}a_worker_that_renews_keeps_what_it_holds",
            f"{LOOKS_MODEL}who_renews_is_never_silent_and_who_stopped_is_found",
        ),
    ),
    Rule(
        16,
        "a takeover compares the number once more",
        (
            lua(
                "silence",
                "if number ~= (redis.call('HGET', numbers_key, holder) or '') then return nil end",
                "",
            ),
        ),
        (f"{TAKEOVER}a_worker_that_renews_after_the_look_is_not_taken_over_from",),
    ),
    Rule(
        16,
        "a holder that held nothing meanwhile begins a new age",
        (
            lua(
                "watch",
                "redis.call('HDEL', watched_key, holder)",
                "redis.call('HEXISTS', watched_key, holder)",
            ),
        ),
        (f"{TAKEOVER}a_worker_that_holds_something_anew_has_a_whole_lease",),
    ),
    Rule(
        16,
        "idle times count for holders without a number only",
        (lua("silence", "if number ~= '' then return 0 end", "if true then return lease end"),),
        (f"{TAKEOVER}what_a_silent_worker_held_is_taken_over_after_one_lease_and_not_before",),
    ),
    Rule(
        16,
        "and there they count",
        (lua("silence", "and lease or nil", "and 0 or nil"),),
        (f"{STREAM_TAKEOVER}only_what_was_silent_for_a_lease_is_taken_over",),
    ),
    Rule(
        16,
        "a worker looks only where nobody else does, so that no time counts twice",
        (lua("look", "if number ~= ARGV[1] then", "if ARGV[1] == '' then"),),
        (f"{TAKEOVER}one_worker_looks_and_all_take_over_what_it_finds",),
    ),
    Rule(
        16,
        "the ages stay when the worker that looked is gone",
        (
            Edit(
                "worker/takeover.py",
                "        self._watches = self._clock(), found_by\n",
                "        if look.is_ours:\n            self._watches = self._clock(), found_by\n",
            ),
        ),
        (f"{TAKEOVER}workers_that_all_live_for_half_a_lease_find_what_is_silent",),
    ),
    Rule(
        16,
        "time counts only for what was noted before it began",
        (lua("watch", "elseif tonumber(born) <= before then", "else"),),
        (f"{LOOKS}time_counts_only_for_what_was_noted_before_it_began",),
    ),
    Rule(
        16,
        "a look that is carried out late changes nothing",
        (lua("watch", "if behind and behind >= 0 and behind < MOST_LATE then return 0 end", ""),),
        (f"{LOOKS}a_look_that_arrives_behind_a_later_one_changes_nothing",),
    ),
    Rule(
        16,
        "the number rises wherever the worker may hold something that it does not know of yet",
        (
            Edit(
                "worker/leases.py",
                "self._leases.renew(refs, self._in_use())",
                "self._leases.renew(refs)",
            ),
        ),
        (f"{LEASES}the_number_rises_where_something_is_asked_for_or_was_given",),
    ),
    Rule(
        16,
        "what came in a lost reply is asked for",
        (Edit("worker/pool.py", "            self._reply_lost()\n", ""),),
        (f"{POOL_TAKEOVER}messages_whose_take_was_never_answered_are_recovered",),
    ),
    Rule(
        16,
        "and once more after a lease",
        (
            Edit(
                "worker/takeover.py",
                "is_over = self._clock() >= self._recovers_until",
                "is_over = True",
            ),
        ),
        (f"{RECOVERY}it_asks_once_more_after_a_lease_because_a_command_may_be_carried_out_late",),
    ),
    Rule(
        16,
        "a failed wait is no lost reply",
        (
            Edit(
                "worker/pool.py",
                "            self._has_wakeup = await self._consumer.wait(",
                "            self._takeover.lost_reply()\n"
                "            self._has_wakeup = await self._consumer.wait(",
            ),
        ),
        (f"{POOL_TAKEOVER}a_failed_wait_moves_no_takeover_and_nothing_is_recovered_after_it",),
    ),
    Rule(
        16,
        "what a lost reply brought goes to others where no slot is free",
        (Edit("worker/pool.py", "None if latest == math.inf else latest", "None"),),
        (f"{POOL_TAKEOVER}what_a_lost_reply_brought_goes_to_others_where_no_slot_is_free",),
    ),
    Rule(
        16,
        "what came back while it was settled is looked for once more",
        (
            Edit(
                "worker/pool.py",
                "            self._takeover.recover_soon()\n",
                "            pass\n",
            ),
        ),
        (f"{POOL_TAKEOVER}what_was_settled_while_it_came_back_is_not_held_for_ever",),
    ),
    Rule(
        16,
        "a worker whose look fails leaves the next turn to others",
        (Edit("worker/takeover.py", '            self._seen = ""  #', "            pass  #"),),
        (f"{TAKEOVER_FAULTS}a_worker_whose_looks_always_fail_leaves_the_turn_to_others",),
    ),
    Rule(
        16,
        "the first renewal gives a lease number in every partition",
        (Edit("hookmill/stream/leases.py", "if not self._has_number:", "if False:"),),
        (f"{STREAM_LEASES}a_step_back_of_redis_clock_postpones_no_takeover_from_a_killed_worker",),
    ),
    Rule(
        16,
        "what a take has brought is in use until the whole take has ended",
        (
            Edit(
                "hookmill/stream/takes.py",
                "min(began, time.monotonic() - seconds)",
                "time.monotonic() - seconds",
            ),
        ),
        (f"{CONSUMER_FAULTS}what_a_partition_gave_is_in_use_until_the_whole_take_has_ended",),
    ),
    Rule(
        16,
        "an ID of the again stream is not taken for one of the stream",
        (lua("takeover", "if which == 1 then deleted[", "if true then deleted["),),
        (f"{STREAM_TAKEOVER}a_deleted_retry_releases_no_key_of_an_entry_with_the_same_id",),
    ),
    Rule(
        16,
        "a process that is new takes over one message first",
        (Edit("worker/takeover.py", "count = min(count, self._most)", ""),),
        (f"{TAKEOVER}a_worker_that_is_new_takes_over_one_and_then_more",),
    ),
    Rule(
        16,
        "what was just settled is not reported as lost",
        (
            Edit(
                "worker/leases.py",
                "set(lost) & set(self._held) - settling",
                "set(lost) & set(self._held)",
            ),
        ),
        (f"{LEASES}what_is_being_settled_does_not_count_as_lost",),
    ),
    # --- 17: who is alive ----------------------------------------------------------------------
    Rule(
        17,
        "a heartbeat ends a lease after its worker's event loop",
        (
            Edit(
                "hookmill/stream/heartbeats.py",
                "max(1, int(heartbeat.lease * 1000))",
                "10**9",
            ),
        ),
        (
            f"{HEARTBEATS}one_expires_while_another_goes_on_and_leaves_nothing",
            f"{ALIVE}a_killed_workers_heartbeat_is_gone_within_a_lease",
            f"{ALIVE}a_worker_with_a_blocked_event_loop_loses_its_heartbeat_and_keeps_its_messages",
        ),
    ),
    Rule(
        17,
        "an idle worker with a heartbeat counts",
        (
            Edit(
                "hookmill/stream/facts.py",
                "return len(self.heartbeats) + sum(",
                "return sum(",
            ),
        ),
        (
            f"{GROUP_CHECKS}an_idle_worker_with_a_heartbeat_raises_none",
            f"{ALIVE}an_idle_worker_counts_however_long_redis_did_not_hear_of_its_consumer",
        ),
    ),
    Rule(
        17,
        "a heartbeat that seems to come from the future was written by another clock",
        (lua("heartbeat_left", "if age < -tonumber(lasts) then return 0, 0 end", ""),),
        (f"{HEARTBEATS}after_redis_clock_was_set_back_only_living_workers_are_there",),
    ),
    Rule(
        17,
        "a stop waits for the heartbeat that is under way, so that it does not arrive afterwards",
        (
            Edit(
                "worker/heartbeat.py",
                "asyncio.timeout(STOP_STEP_TIMEOUT), self._writing:",
                "asyncio.timeout(STOP_STEP_TIMEOUT):",
            ),
        ),
        (f"{HEARTBEAT}a_write_under_way_is_removed_too_and_no_other_follows",),
    ),
    Rule(
        17,
        "a full Redis takes a lease number, for its worker still holds what it holds",
        (lua("renew", "redis.call('DEL', KEYS[3] .. ':none')", ""),),
        (f"{STREAM_LEASES}a_full_redis_takes_a_lease_number",),
    ),
    Rule(
        17,
        "the lease number of a worker that lives stays",
        (
            Edit(
                "hookmill/stream/upkeep.py",
                "else names - alive",
                "else names",
            ),
        ),
        (f"{UPKEEP}a_lease_number_goes_with_its_consumer",),
    ),
    Rule(
        17,
        "the lease number of a consumer that holds something stays",
        (Edit("hookmill/stream/upkeep.py", "if gone := gone - left:", "if gone:"),),
        (f"{UPKEEP}a_lease_number_goes_with_its_consumer",),
    ),
    # --- 18: a group is made on purpose --------------------------------------------------------
    Rule(
        18,
        "a group that nobody made is not made by its worker",
        (Edit("hookmill/stream/consumer.py", "if not self._makes_group:", "if False:"),),
        (
            f"{GROUPS}an_unknown_group_is_refused_and_nothing_is_left_of_it",
            f"{GROUPS}where_nothing_is_there_yet_a_group_is_refused_too",
            f"{UNKNOWN_GROUP}a_worker_of_an_unknown_group_that_starts_before_its_redis_ends",
        ),
    ),
    Rule(
        18,
        "no worker makes a group again that was dropped",
        (lua("open", "if is_closed(state) then return -1 end", ""),),
        (
            f"{GROUPS_DROPPED}no_worker_makes_a_dropped_group_again",
            f"{GROUPS_DROPPED}while_a_group_is_being_dropped_nobody_works_in_it_or_adds_it",
        ),
    ),
    Rule(
        18,
        "a group is not dropped while a heartbeat of it lives, which is one step with the note",
        (lua("drop_group", "if #alive > 0 then return { alive, now_text } end", ""),),
        (f"{GROUPS_DROPPED}a_group_is_not_dropped_while_a_heartbeat_of_it_lives",),
    ),
    Rule(
        18,
        "only what begins like a key of the group is deleted with it",
        (
            Edit(
                "hookmill/stream/groups.py",
                "[key for key in page if key.startswith(beginnings)]",
                "page",
            ),
        ),
        (
            f"{GROUPS_DROPPED}all_keys_of_a_group_go_and_those_of_others_stay",
            f"{GROUPS_DROPPED}a_group_named_like_a_key_of_the_stream_takes_nothing_of_it_along",
        ),
    ),
    Rule(
        18,
        "of those who add a group at the same time one succeeds",
        (lua("add_group", "(ARGV[3] == '1' and state ~= 'adding')", "false"),),
        (f"{GROUPS}of_those_who_add_a_group_at_the_same_time_one_succeeds",),
    ),
    Rule(
        18,
        "a group from now on starts there again if it is lost before the first trim",
        (lua("add_group", "redis.call('SET', KEYS[3], start)", ""),),
        (f"{GROUPS}a_group_from_now_that_is_lost_before_the_first_trim_starts_there_again",),
    ),
    # --- 24: a connection that is no longer good is dropped ---------------------------------------
    Rule(
        19,
        "a worker that knows other pauses reads them before it begins what it has taken",
        (
            Edit(
                "hookmill/stream/takes.py",
                "if not self._versions.items() <= self.pauses.known.versions.items():",
                "if False:",
            ),
        ),
        (f"{PAUSES}each_take_tells_the_worker_of_a_new_pause_before_it_gives_anything",),
    ),
    Rule(
        19,
        "while all is paused, a take gives nothing",
        (lua("take", "if all_is_paused then return", "if false then return"),),
        (f"{PAUSES}while_all_is_paused_a_take_gives_nothing_and_a_resume_wakes",),
    ),
    Rule(
        19,
        "nor does a direct read",
        (lua("direct_read", "if before or all_is_paused then", "if before then"),),
        (f"{PAUSES}a_direct_read_gives_nothing_while_all_is_paused",),
    ),
    Rule(
        19,
        "what is settled after its pause has ended is taken again",
        (lua("held_back", "if pause_of(name) ~= 'on' then return add_again(fields) end", ""),),
        (f"{PAUSES}what_is_settled_after_its_pause_has_ended_is_taken_again",),
    ),
    Rule(
        19,
        "a key waits for its message that is held back",
        (
            lua(
                "settle",
                "hold_back(place, fields)\n    return 1",
                "hold_back(place, fields)\n    return 0",
            ),
        ),
        (f"{PAUSES}a_key_waits_for_its_message_that_is_held_back",),
    ),
    Rule(
        19,
        "where a resume broke off, the releaser goes on",
        (lua("pause_end", "state == 'resuming' or (", "("),),
        (f"{PAUSES}resuming_goes_in_steps_and_another_one_goes_on_where_it_broke_off",),
    ),
    Rule(
        19,
        "what is held back counts as backlog",
        (lua("backlog", "redis.call('HGET', names.paused, 'count') or 0", "0"),),
        (f"{PAUSES}it_is_backlog_as_any_other_and_known_to_the_last_byte",),
    ),
    Rule(
        19,
        "what waits for a thread does not begin after a pause",
        (Edit("worker/pool.py", "        self._attempter.requeue_paused()\n", ""),),
        ("tests/worker/test_pauses.py::test_what_waits_for_a_thread_does_not_begin_after_a_pause",),
    ),
    Rule(
        20,
        "what gets a new place during the look at what is unfinished is not replayed",
        (
            lua(
                "moves",
                "if is_looked_at then redis.call('HSET', moves_key, token, '') end",
                "if is_looked_at then is_looked_at = true end",
            ),
        ),
        (f"{REPLAYS}what_moves_behind_the_back_of_a_look_is_left_out",),
    ),
    Rule(
        20,
        "each place of an unfinished message is looked at",
        (
            Edit(
                "hookmill/stream/unfinished.py",
                "        async for names in self._scanned(number, keys.delayed, is_sorted=True):\n",
                "        async for names in self._scanned(number, keys.due, is_sorted=True):\n",
            ),
        ),
        (f"{REPLAYS}each_place_of_an_unfinished_message_is_looked_at",),
    ),
    Rule(
        20,
        "one message that was not delivered yet is not replayed",
        (Edit("hookmill/stream/unfinished.py", "is_pending or is_waiting or", "is_pending or"),),
        (f"{REPLAY_PAGES}a_handled_message_and_no_other_is_replayed_on_its_page",),
    ),
    Rule(
        20,
        "what moves while one message is looked at, is not replayed",
        (Edit("hookmill/stream/unfinished.py", " or has_moved is not None else", " else"),),
        (f"{REPLAYS}what_moves_behind_the_back_of_a_look_is_left_out",),
    ),
    Rule(
        20,
        "of several entries with one ID only the owner's is replayed",
        (lua("replay_handled", "if owner and owner ~= packed(id) then", "if not id then"),),
        (f"{REPLAYS}a_duplicate_is_left_out_and_what_is_gone_and_forgotten_is_counted",),
    ),
    Rule(
        20,
        "a step whose reply was lost is not done twice",
        (
            lua(
                "replay_handled",
                "if kept.cursor == ARGV[6] then return reply('went on') end",
                "if kept.cursor == ARGV[6] then kept.cursor = ARGV[5] end",
            ),
        ),
        (
            f"{REPLAYS}a_step_whose_reply_was_lost_does_nothing_when_it_is_sent_again",
            f"{ADMIN_REPLAYS}a_lost_reply_repeats_nothing_and_an_outage_is_waited_for",
        ),
    ),
    Rule(
        20,
        "one run at a time replays",
        (
            lua(
                "replay_right",
                "if name ~= run then return false end",
                "if not name then return end",
            ),
        ),
        (f"{REPLAYS}one_run_at_a_time_has_the_right",),
    ),
    Rule(
        20,
        "where the group is made again, a replay has to look again",
        (
            lua(
                "open",
                "if made == 1 then redis.call('HDEL', KEYS[5], 'replay') end",
                "if made == 2 then redis.call('HDEL', KEYS[5], 'replay') end",
            ),
        ),
        (f"{REPLAYS}where_the_group_is_made_again_a_replay_has_to_look_again",),
    ),
    Rule(
        20,
        "beside a worker of an older release nothing is replayed",
        (
            Edit(
                "hookmill/admin/replay_checks.py",
                "    if older:\n",
                "    if older and silent < 0:\n",
            ),
        ),
        (f"{ADMIN_REPLAYS}beside_a_worker_of_an_older_release_nothing_is_replayed",),
    ),
    Rule(
        20,
        "a replayed message with an ordering key joins the end of its line",
        (
            lua(
                "replay_handled",
                "if key == '' then add_again(copy) else rejoin(key, id, copy) end",
                "add_again(copy)",
            ),
        ),
        (f"{REPLAYS}an_ordered_message_joins_the_end_of_its_key",),
    ),
    Rule(
        24,
        "a reply that only the wrong server gives drops the connections to it",
        (Edit("hookmill/stream/connections.py", "if is_of_wrong_server(error):", "if False:"),),
        (
            f"{SWITCH}the_first_refusal_drops_every_idle_connection",
            f"{SWITCH}receiver_and_worker_go_on_after_their_master_was_demoted_behind_a_proxy",
        ),
    ),
    Rule(
        24,
        "for the thread that renews leases, too",
        (
            Edit(
                "hookmill/stream/leases.py",
                "                self._servers[server].connection_pool.disconnect()\n",
                "",
            ),
        ),
        (f"{SWITCH}leases_are_renewed_at_the_new_master",),
    ),
    Rule(
        24,
        "a script is loaded and run on the same connection",
        (
            Edit(
                "hookmill/stream/script_runner.py",
                'loads = [(place, ("SCRIPT", "LOAD", text)) for place in places.values()]',
                "await self._faults_of(text); loads = [(p, ('PING',)) for p in places.values()]",
            ),
        ),
        (f"{SWITCH}a_script_is_run_where_it_was_loaded_though_connections_lead_to_two_servers",),
    ),
    # --- 26: in a cluster, a script runs where all of its keys are -----------------------------
    Rule(
        26,
        "while a slot moves key by key, no script runs",
        (
            Edit(
                "hookmill/stream/script_runner.py",
                "return [*keys, self._client.partitions[place].none]",
                "return [*keys, keys[0]]",
            ),
        ),
        (
            f"{CLUSTER}while_a_slot_moves_a_script_is_refused_also_where_all_keys_that_it_names_are_there",
        ),
    ),
    Rule(
        26,
        "what did not run, because its keys have moved, is sent after them",
        (Edit("hookmill/stream/moving.py", "MOST_MOVES = 3", "MOST_MOVES = 0"),),
        (f"{CLUSTER}commands_follow_a_slot_that_has_moved_and_run_once",),
    ),
    # --- 27: where an entry waits, no worker waits ------------------------------------------------
    Rule(
        27,
        "where a take or a wait failed, a wake-up may be lost, so all partitions are asked",
        (
            Edit(
                "hookmill/stream/wakeup.py",
                "        self.is_whole_take_due = True\n\n    @property",
                "        pass\n\n    @property",
            ),
        ),
        (
            f"{CONSUMER_FAULTS}what_a_worker_was_woken_for_is_found_at_once_where_its_take_failed",
            f"{CONSUMER_FAULTS}what_a_wake_up_announced_is_found_at_once_where_its_reply_was_lost",
        ),
    ),
    Rule(
        27,
        "a take that leaves entries behind wakes another worker",
        (lua("left_behind", "      wake()\n", ""),),
        (
            f"{WAKE_UP}a_batch_wakes_one_worker_after_the_other_until_nothing_is_left",
            "tests/stream/test_wakeup_model.py::test_no_entry_waits_beside_a_worker_that_waits",
        ),
    ),
    Rule(
        27,
        "a take that leaves nothing keeps a wake-up that it gave itself",
        (lua("left_behind", "if has_woken then return 1 end", ""),),
        (f"{WAKE_UP}the_next_message_of_a_key_whose_head_is_a_duplicate_wakes_a_worker",),
    ),
    Rule(
        27,
        "what is taken again wakes a worker",
        (lua("wake", "  wake()\n", ""),),
        (f"{WAKE_UP}an_entry_of_the_again_stream_wakes_a_worker",),
    ),
    Rule(
        27,
        "a worker that is woken while it stops wakes another",
        (Edit("worker/pool.py", "if self._has_wakeup:  #", "if False:  #"),),
        ("tests/worker/test_pool_stop.py::test_a_pool_that_is_woken_while_it_stops_wakes_another",),
    ),
    Rule(
        27,
        "what is appended while no group is there wakes a worker",
        (lua("wake_all", "if is_alone then", "if false then"),),
        (f"{WAKE_UP}what_is_appended_while_the_group_is_lost_wakes_a_worker_that_makes_it_again",),
    ),
    Rule(
        27,
        "a worker that is woken all the time takes from all partitions now and then",
        (
            Edit(
                "hookmill/stream/wakeup.py",
                " or self._clock() >= self._look_at",
                "",
            ),
        ),
        (f"{WAKE_UP}a_lost_wake_up_is_repaired_by_a_worker_that_is_woken_all_the_time",),
    ),
    Rule(
        27,
        "where no other worker took from all partitions since the last look, this one does",
        (lua("look_at_whole_takes", "or number > seen", "or number >= seen"),),
        (f"{WHOLE_TAKES}a_lost_wake_up_is_found_though_the_last_worker_that_asked_all_has_died",),
    ),
    Rule(
        27,
        "what may last long never has a worker's last connection",
        (
            Edit(
                "hookmill/stream/open_connections.py",
                "if is_long and self._has_enough_long:",
                "if False:",
            ),
        ),
        (f"{OPEN_CONNECTIONS}what_may_last_long_never_has_the_last_connection",),
    ),
    Rule(
        27,
        "a command does not wait in line for a connection longer than for its reply",
        (
            Edit(
                "hookmill/stream/open_connections.py",
                "asyncio.timeout(patience)",
                "asyncio.timeout(None)",
            ),
        ),
        (
            f"{OPEN_CONNECTIONS}where_redis_stands_still_those_in_line_fail_with_those_that_were_sent",
        ),
    ),
    Rule(
        27,
        "a wait whose connection was dropped may have lost a wake-up",
        (
            Edit(
                "hookmill/stream/wakeup.py",
                "is_due or self._new_entries.was_dropped",
                "is_due",
            ),
        ),
        (f"{WHOLE_TAKES}a_worker_whose_wait_was_cut_asks_all_partitions",),
    ),
    Rule(
        27,
        "and often, where it finds what a program of release 0.1 has added",
        (Edit("hookmill/stream/wakeup.py", "if was_overlooked or (", "if ("),),
        ("tests/stream/test_wakeup_0_1.py::test_what_has_no_wake_up_is_found_beside_what_has",),
    ),
    Rule(
        27,
        "where the releaser of delayed messages stands still, another takes its task over",
        (Edit("worker/delayed.py", "elif now >= self._must_move_by:", "elif False:"),),
        (
            f"{DELAYED}a_worker_gives_the_releaser_its_time_and_then_takes_its_task_over",
            f"{DELAYED}a_retry_does_not_wait_for_a_releaser_that_is_gone",
        ),
    ),
    Rule(
        27,
        "but only where its number has not moved",
        (Edit("worker/delayed.py", "if seen.number != self._number:", "if self._number < 0:"),),
        (f"{DELAYED}a_worker_gives_the_releaser_its_time_and_then_takes_its_task_over",),
    ),
    Rule(
        27,
        "and one of them alone",
        (lua("look_at_delayed", "and tonumber(ARGV[2]) == number then", "then"),),
        (f"{DELAYED}of_several_that_take_the_task_over_one_is_the_releaser",),
    ),
    Rule(
        27,
        "the releaser looks at every partition now and then",
        (
            Edit(
                "worker/delayed.py",
                "self._look_at_all_at = now + LONGEST_PAUSE",
                "self._look_at_all_at = math.inf",
            ),
            Edit("worker/delayed.py", "import random\n", "import math\nimport random\n"),
        ),
        (f"{DELAYED}what_a_worker_of_release_0_1_delayed_is_found_by_the_releaser",),
    ),
    Rule(
        27,
        "where Redis' clock was set back, what is delayed is due earlier by as much",
        (lua("clock", "if step < LEAST_STEP then return end", "do return end"),),
        (
            f"{RELEASE}after_redis_clock_was_set_back_delayed_messages_do_not_wait_for_it_to_catch_up",
            f"{RELEASE}many_delayed_messages_keep_their_order_when_redis_clock_was_set_back",
        ),
    ),
    # --- 30: threads, and no half-dead worker ----------------------------------------------------
    Rule(
        30,
        "a worker of plain functions takes no more than it has free threads",
        (
            Edit(
                "worker/attempt.py",
                "return self._threads.usable if self.needs_thread else sys.maxsize",
                "return sys.maxsize",
            ),
        ),
        (f"{WAITING}a_worker_of_plain_functions_takes_no_more_than_it_has_free_threads",),
    ),
    Rule(
        30,
        "what waits for a thread goes to a worker that has one",
        (Edit("worker/waiting.py", "self._threads.requeue(one, ", "(one, "),),
        (f"{WAITING}what_waits_for_a_thread_goes_to_an_idle_worker_and_runs_once",),
    ),
    Rule(
        30,
        "only a heartbeat that is newer than the last move says who has free threads",
        (Edit("worker/waiting.py", "one.age_ms < oldest", "True"),),
        (f"{WAITING}after_a_move_only_what_others_said_since_then_counts",),
    ),
    Rule(
        30,
        "who runs moved messages says more often how many free threads it has",
        (
            Edit(
                "worker/heartbeat.py",
                " or now - self._threads.ran_moved_at < third:",
                ":",
            ),
        ),
        (f"{WAITING}all_that_waits_goes_to_an_idle_worker_soon",),
    ),
    Rule(
        30,
        "but at most once a lease",
        (Edit("worker/waiting.py", "moved_ms) >= self._lease * 1000", "moved_ms) >= 0"),),
        (f"{WAITING}a_message_is_moved_once_a_lease_and_no_attempt_is_counted",),
    ),
    Rule(
        30,
        "stuck attempts have failed when their worker ends",
        (Edit("worker/stuck_threads.py", "        call.give_up()", "        pass"),),
        (
            f"{STUCK}stuck_attempts_have_failed_and_what_is_in_time_goes_on",
            f"{STUCK}poison_that_sticks_to_threads_ends_each_worker_and_becomes_a_dead_letter",
        ),
    ),
    Rule(
        30,
        "a thread that nobody waits for is not free",
        (
            Edit(
                "worker/threads.py",
                "return self.count - len(self._left_running)",
                "return self.count",
            ),
        ),
        (f"{WAITING}a_thread_that_nobody_waits_for_is_not_free",),
    ),
    Rule(
        30,
        "without a bound no dead letter is dropped",
        (
            Edit(
                "worker/dead_letter_bounds.py",
                "excess = count - self._bounds.messages if self._bounds.messages else 0",
                "excess = count - self._bounds.messages",
            ),
            Edit("worker/dead_letter_bounds.py", "if not any(self._bounds):", "if False:"),
            Edit(
                "worker/dead_letter_bounds.py",
                "        if 0 < self._bounds.messages < count:",
                "        if True:",
            ),
        ),
        (f"{DEAD_BOUNDS}without_a_bound_nothing_is_dropped",),
    ),
    Rule(
        30,
        "a dead letter is too old only by two clocks",
        (Edit("worker/dead_letter_bounds.py", "if min(ages) >=", "if max(ages) >="),),
        (f"{DEAD_BOUNDS}what_is_too_old_is_dropped_by_two_clocks",),
    ),
    Rule(
        30,
        "dead letters are counted after the oldest were read",
        (
            Edit(
                "worker/dead_letter_bounds.py",
                "        now_ms, oldest = await self._letters.oldest(AT_ONCE)\n",
                "        before = await self._letters.count()\n"
                "        now_ms, oldest = await self._letters.oldest(AT_ONCE)\n",
            ),
            Edit(
                "worker/dead_letter_bounds.py",
                "count, excess_bytes = await self._letters.count(), ",
                "count, excess_bytes = before, ",
            ),
        ),
        (f"{DEAD_BOUNDS}two_workers_that_drop_at_the_same_time_drop_no_more_than_one",),
    ),
    Rule(
        30,
        "what leaves while dead letters are counted again leaves what was counted of them",
        (lua("reasons_gone", "  if is_recounted(id) then", "  if false then"),),
        (f"{DEAD_REASONS}what_leaves_while_they_are_counted_again_is_not_counted",),
    ),
    Rule(
        30,
        "dead letters that an older release wrote are counted again, also where others have left",
        (lua("recount_dead", "return #later == 0", "return true"),),
        (f"{DEAD_REASONS}one_that_an_older_release_added_in_place_of_another_is_noticed",),
    ),
    Rule(
        30,
        "dead letters that are not counted yet are shown, and none more than once",
        (
            Edit(
                "hookmill/stream/dead_reasons.py",
                "excess = max(0, counts.total() - length)",
                "excess = 0",
            ),
        ),
        (
            f"{DEAD_REASONS}what_an_older_release_removed_is_no_longer_counted",
            f"{DEAD_REASONS}what_is_shown_is_never_negative_and_always_all",
        ),
    ),
    Rule(
        30,
        "the pool is watched",
        (
            Edit(
                "worker/app.py",
                "first_to_end([*pools, *tasks])",
                "first_to_end(tasks)",
            ),
        ),
        (f"{PROCESS_END}a_worker_that_loses_a_part_of_itself_ends_and_requeues_its_work",),
    ),
    Rule(
        30,
        "the background tasks are watched",
        (
            Edit(
                "worker/app.py",
                "first_to_end([*pools, *tasks])",
                "first_to_end([*pools, *tasks[:-1]])",
            ),
        ),
        (f"{PROCESS_END}a_worker_that_loses_a_background_task_ends_and_requeues_its_work",),
    ),
    Rule(
        30,
        "the settler is watched",
        (Edit("worker/lane.py", '            "settler watch": self.pool.watch_settler(),\n', ""),),
        (f"{PROCESS_END}a_worker_that_loses_a_part_of_itself_ends_and_requeues_its_work",),
    ),
    Rule(
        30,
        "the thread that renews leases is watched",
        (
            Edit(
                "worker/lane.py",
                '            "leases thread": watch_thread(self.leases.is_alive),\n',
                "",
            ),
        ),
        (f"{PROCESS_END}a_worker_that_loses_a_thread_of_its_own_ends_and_requeues_its_work",),
    ),
    Rule(
        30,
        "the thread that watches the event loop is watched",
        (
            Edit(
                "worker/app.py",
                '            "loop watch thread": watch_thread(self._loop_watch.is_alive),\n',
                "",
            ),
        ),
        (f"{PROCESS_END}a_worker_that_loses_a_thread_of_its_own_ends_and_requeues_its_work",),
    ),
    Rule(
        30,
        "an outage of Redis makes no worker unhealthy",
        (
            Edit(
                "worker/consumption.py",
                "                self._seen.clear()\n",
                "                pass\n",
            ),
        ),
        (f"{CONSUMPTION}while_redis_does_not_answer_nobody_is_unhealthy",),
    ),
    Rule(
        30,
        "the time until a late answer of Redis does not count against a worker",
        (Edit("worker/consumption.py", "min(now, since + seconds)", "since"),),
        (f"{CONSUMPTION}the_time_until_an_answer_of_redis_does_not_count",),
    ),
    Rule(
        30,
        "a worker that stands still is found also where Redis is slow",
        (Edit("worker/consumption.py", "min(now, since + seconds)", "now"),),
        (f"{CONSUMPTION}a_pool_that_no_longer_turns_is_found_also_where_each_answer_comes_late",),
    ),
    Rule(
        30,
        "a worker whose work is all paused is healthy",
        (Edit("worker/consumption.py", " or self._is_paused()", ""),),
        (f"{CONSUMPTION}one_that_may_take_nothing_is_healthy",),
    ),
    Rule(
        30,
        "a worker that stands still although work waits is unhealthy",
        (
            Edit(
                "worker/consumption.py",
                'if min(longest, self._age("free")) >= seconds:',
                "if False:",
            ),
        ),
        (f"{CONSUMPTION}a_pool_that_turns_but_never_gets_what_waits_is_found_within_30_seconds",),
    ),
    Rule(
        30,
        "a worker is unhealthy while one of its periodic tasks hangs",
        (Edit("worker/health.py", " or self._duties.fault", ""),),
        ("tests/worker/test_health.py::test_the_first_cause_is_named",),
    ),
    Rule(
        30,
        "no task hangs because the loop was blocked or the process stood still",
        (Edit("worker/duties.py", "min(now - self._looked, 2 * PERIOD)", "now - self._looked"),),
        (
            "tests/worker/test_duties.py::test_while_the_loop_is_blocked_or_the_process_stands_still_no_time_counts",
        ),
    ),
    Rule(
        30,
        "the task that watches the others is watched",
        (
            Edit(
                "worker/main.py",
                'return "main" if ended.cancelled() else ended.result()',
                'return "" if ended.cancelled() else ended.result()',
            ),
        ),
        (f"{PROCESS_END}a_worker_that_loses_a_part_of_itself_ends_and_requeues_its_work",),
    ),
    Rule(
        30,
        "the main task is not ended by a handler",
        (
            Edit(
                "worker/main.py",
                '        return "main"  # a handler cancels every task that it finds',
                '        return ""',
            ),
        ),
        (f"{PROCESS_END}a_worker_that_loses_a_part_of_itself_ends_and_requeues_its_work",),
    ),
    Rule(
        31,
        "a guarded sender judges the address of each connection",
        (
            Edit(
                "hookmill/sending/transport.py",
                "socket_factory=_public_socket if self._only_public else None,",
                "socket_factory=None,",
            ),
        ),
        (f"{ONLY_PUBLIC}a_name_that_leads_to_this_machine_is_not_connected_to",),
    ),
    Rule(
        31,
        "a guarded sender takes an IPv4 address only as four decimal numbers",
        (
            Edit(
                "hookmill/sending/public_addresses.py",
                'if ":" in host or _LAST_IS_NUMBER.fullmatch(host):',
                "if not host:",
            ),
        ),
        (f"{PUBLIC}an_ipv4_address_counts_only_as_four_decimal_numbers",),
    ),
    Rule(
        32,
        "a receiver looks for its rights before it receives",
        (
            Edit(
                "receiver/main.py",
                '        await check_rights(stream.client, "receiver")\n',
                "",
            ),
        ),
        (f"{RIGHTS}a_receiver_whose_user_lacks_a_right_ends_and_names_it",),
    ),
    Rule(
        32,
        "a worker looks for its rights before it works",
        (Edit("worker/opening.py", '            await check_rights(client, "worker")\n', ""),),
        (f"{RIGHTS}a_worker_whose_user_lacks_a_right_ends_and_names_it",),
    ),
    Rule(
        32,
        "commands are tried only by a script that cannot write",
        (lua("rights", "local is_safe = false", "local is_safe = true"),),
        (
            "tests/stream/test_rights.py::test_where_scripts_may_write_all_the_same_nothing_is_tried",
        ),
    ),
    Rule(
        32,
        "the emulator refuses what has an Origin",
        (Edit("hookmill/emulator/origins.py", 'if "Origin" in headers:', "if not headers:"),),
        (
            f"{GUARD}a_web_page_that_knows_the_token_can_neither_change_nor_read_anything",
            f"{ORIGINS}what_has_an_origin_is_refused_because_the_emulator_has_no_pages",
        ),
    ),
    Rule(
        32,
        "the emulator refuses what a browser says comes from another site",
        (
            Edit(
                "hookmill/emulator/origins.py",
                'if not _TYPED.issuperset(headers.getall("Sec-Fetch-Site", [])):',
                "if not headers:",
            ),
        ),
        (
            f"{GUARD}a_web_page_that_knows_the_token_can_neither_change_nor_read_anything",
            f"{ORIGINS}what_comes_from_another_site_is_refused",
        ),
    ),
    Rule(
        32,
        "the emulator refuses a Host that is not this machine",
        (
            Edit(
                "hookmill/emulator/origins.py",
                "is_loopback(host) or host == own_host.lower()",
                "True",
            ),
        ),
        (
            f"{GUARD}a_web_page_that_knows_the_token_can_neither_change_nor_read_anything",
            f"{ORIGINS}a_host_that_has_come_to_mean_this_machine_is_refused",
        ),
    ),
    Rule(
        32,
        "a published token never goes with real keys",
        (
            Edit(
                "hookmill/emulator/credentials.py",
                "if token in PUBLIC_TOKENS and are_real(keys):",
                'if token == "":',
            ),
        ),
        (
            f"{CREDENTIALS}with_real_keys_a_published_token_is_refused",
            f"{EMULATOR}real_keys_are_neither_used_nor_shown_under_the_published_token",
        ),
    ),
    Rule(
        32,
        "a rotation does not make real keys public ones",
        (
            Edit(
                "hookmill/emulator/credentials.py",
                "made_here=not are_real(keys)",
                "made_here=True",
            ),
        ),
        (
            f"{CREDENTIALS}with_real_keys_a_published_token_is_refused",
            f"{EMULATOR}real_keys_are_neither_used_nor_shown_under_the_published_token",
        ),
    ),
    Rule(
        33,
        "public keys verify nothing where others can deliver",
        (
            Edit(
                "hookmill/config/sources.py",
                "if text in _PUBLIC_SECRETS and not is_loopback(settings.host):",
                "if text in _PUBLIC_SECRETS and not settings.host:",
            ),
        ),
        (
            f"{SOURCES}a_secret_that_anyone_knows_is_refused_where_others_can_deliver",
            f"{RECEIVER}with_public_keys_it_does_not_start_where_others_can_deliver",
        ),
    ),
    Rule(
        33,
        "the embedded server listens on no port",
        (
            Edit(
                "hookmill/runtime/embedded_redis.py",
                "ValkeyServer(port=0, ",
                "ValkeyServer(port=free_port(), ",
            ),
        ),
        (f"{EMBEDDED}it_listens_on_no_port",),
    ),
    Rule(
        33,
        "the socket of the embedded server is in a private folder",
        (
            Edit(
                "hookmill/runtime/embedded_redis.py",
                'path = private / "valkey.sock"',
                'private.chmod(0o755)\n        path = private / "valkey.sock"',
            ),
        ),
        (f"{EMBEDDED}no_other_user_can_read_its_folder",),
    ),
    Rule(
        33,
        "hookmill dev uses no Redis that was not asked for",
        (
            Edit(
                "hookmill/dev/environment.py",
                '    use_server("unix:///embedded")',
                "",
            ),
            Edit(
                "hookmill/dev/main.py",
                "        environment.use_server(url)",
                '        os.environ.setdefault("REDIS_URL", url)',
            ),
            Edit(
                "hookmill/dev/environment.py",
                "[name for name in _REDIS if _remove(name)]",
                "[name for name in _REDIS if os.environ.get(name)]",
            ),
        ),
        (f"{DEV}only_its_own_user_can_have_its_handlers_run",),
    ),
    Rule(
        33,
        "hookmill dev has a prefix of its own on a Redis that others may use",
        (
            Edit(
                "hookmill/dev/environment.py",
                "settings.prefix.startswith(_OWN_PREFIX)",
                "bool(settings.prefix)",
            ),
        ),
        (
            f"{DEV}on_the_redis_that_is_set_it_has_a_prefix_of_its_own",
            f"{ENVIRONMENT}on_a_redis_that_is_set_the_prefix_is_a_developers_own",
        ),
    ),
    Rule(
        33,
        "a file of keys counts only while its program runs",
        (
            Edit(
                "hookmill/config/dev_files.py",
                "or not is_private or not _is_locked(file.fileno())",
                "or not is_private",
            ),
        ),
        (f"{DEV_FILES}the_file_of_a_program_that_was_killed_does_not_count",),
    ),
    Rule(
        33,
        "a file of keys counts only if others can neither read nor write it",
        (
            Edit(
                "hookmill/config/dev_files.py",
                "or not is_private or not _is_locked",
                "or not _is_locked",
            ),
        ),
        (f"{DEV_FILES}a_file_that_others_can_read_or_write_does_not_count",),
    ),
    Rule(
        34,
        "the receiver's own port does not say where deliveries go",
        (
            Edit(
                "receiver/health.py",
                "isinstance(found, Refusal) else _text(READY)",
                "isinstance(found, Refusal) else _text(found + self._remarks())",
            ),
        ),
        (f"{HEALTH}a_reader_of_the_public_port_learns_no_partition_and_no_group",),
    ),
    Rule(
        34,
        "the admin address answers to no name of a stranger",
        (
            Edit(
                "hookmill/runtime/admin_request.py",
                "if hosts and not is_private_host(hosts[0], listens_on):",
                "if False:",
            ),
        ),
        (f"{ADMIN_REQUEST}no_head_is_taken_whose_host_is_a_strangers",),
    ),
    Rule(
        34,
        "half-open connections to it make room for others",
        (Edit("hookmill/runtime/admin_server.py", "            oldest.cancel()\n", ""),),
        (f"{ADMIN_SERVER}many_half_open_connections_keep_nobody_out",),
    ),
    Rule(
        35,
        "a connection that sends no whole head is closed in time",
        (
            Edit(
                "receiver/connections.py",
                "if now < head.began + HEAD_TIMEOUT:",
                "if now < head.began + KEEPALIVE:",
            ),
        ),
        (f"{SENDER_CONNECTIONS}a_slow_head_gets_408_and_is_logged",),
    ),
    Rule(
        35,
        "at the limit of connections a new one takes the place of another",
        (
            Edit(
                "receiver/connections.py",
                "len(self._open) >= self._limit and not self._make_room()",
                "len(self._open) >= self._limit",
            ),
        ),
        (
            f"{SENDER_CONNECTIONS}a_new_connection_replaces_an_idle_one_then_a_half_head_then_a_half_body",
        ),
    ),
    Rule(
        35,
        "a request that has arrived whole is not cut off for a new connection",
        (
            Edit(
                "receiver/fastpath.py",
                "if self._idle.pop(self._connection, None) is None:",
                "if self._connection not in self._idle:",
            ),
        ),
        (f"{SENDER_CONNECTIONS}a_request_that_has_arrived_is_never_cut_off",),
    ),
    Rule(
        35,
        "unfinished heads hold few bytes, one by one and together",
        (
            Edit(
                "receiver/connections.py",
                "while self._head_bytes > MOST_HEAD_BYTES:",
                "while self._head_bytes < 0:",
            ),
        ),
        (f"{SENDER_CONNECTIONS}unfinished_heads_hold_few_bytes_together",),
    ),
    Rule(
        35,
        "large heads hold few bytes together while their bodies are on the way",
        (
            Edit(
                "receiver/connections.py",
                "while self._large_head_bytes > MOST_HEAD_BYTES:",
                "while self._large_head_bytes < 0:",
            ),
            # What waits for an answer is bounded too, and a large head is a part of it.
            Edit(
                "receiver/connections.py",
                "while connection in self._open and self._waiting_bytes + size > MOST_HEAD_BYTES:",
                "while False:",
            ),
        ),
        (f"{HELD_BY_CONNECTIONS}large_heads_hold_few_bytes_while_their_bodies_are_awaited",),
    ),
    Rule(
        35,
        "what a connection held is freed when it ends",
        (Edit("receiver/fastpath.py", "        connection._messages.clear()", "        pass"),),
        (f"{ENDED_CONNECTIONS}an_ended_connection_is_freed_at_once",),
    ),
    Rule(
        35,
        "a body that nobody reads is freed when its sender hangs up",
        (
            Edit(
                "receiver/fastpath.py",
                "body.set_exception(error)",
                "pass",
            ),
        ),
        (f"{ENDED_CONNECTIONS}a_body_that_nobody_reads_is_freed_when_its_sender_hangs_up",),
    ),
    Rule(
        35,
        "requests that wait for an answer hold few bytes of heads together",
        (
            Edit(
                "receiver/connections.py",
                "while connection in self._open and self._waiting_bytes + size > MOST_HEAD_BYTES:",
                "while False:",
            ),
        ),
        (f"{WAITING_REQUESTS}requests_that_wait_hold_few_bytes_besides_bodies",),
    ),
    Rule(
        35,
        "large reads hold few bytes together until requests have taken them over",
        (
            Edit(
                "receiver/connections.py",
                "if self._read_bytes + size > MOST_READ_BYTES:",
                "if self._read_bytes < 0:",
            ),
        ),
        (f"{HELD_BY_CONNECTIONS}large_reads_hold_few_bytes_until_requests_take_them_over",),
    ),
    Rule(
        35,
        "trailers hold few bytes",
        (
            Edit(
                "receiver/connections.py",
                'self._close(connection, "long_trailers")',
                "pass",
            ),
        ),
        (f"{HELD_BY_CONNECTIONS}trailers_hold_few_bytes",),
    ),
    Rule(
        35,
        "a body that broke off is freed without the garbage collector",
        (Edit("receiver/http.py", "            error.__traceback__ = None\n", ""),),
        (f"{HELD_BY_CONNECTIONS}a_body_that_breaks_off_is_freed_at_once",),
    ),
    Rule(
        35,
        "a sender that reads no answers cannot send on",
        (
            Edit(
                "receiver/connections.py",
                'if connection in self._open:\n            self._close(connection, "unread")',
                "pass",
            ),
        ),
        (f"{SENDER_CONNECTIONS}a_sender_that_does_not_read_its_answers_is_closed",),
    ),
    Rule(
        35,
        "no source holds more than half of the bytes that the others leave free",
        (
            Edit(
                "receiver/capacity.py",
                "or 2 * (own - spare + count) <= free",
                "or own - spare + count <= free",
            ),
        ),
        (f"{CAPACITY}slow_bodies_for_one_source_leave_half_of_the_bytes_to_the_others",),
    ),
    Rule(
        35,
        "an old body makes room for others",
        (
            Edit(
                "receiver/capacity.py",
                "latest = self._clock() - PROTECTED",
                "latest = -1e9",
            ),
        ),
        (
            f"{CAPACITY}a_body_that_is_on_its_way_for_a_second_is_given_up_for_another",
            f"{CAPACITY}a_body_that_has_arrived_at_once_takes_the_place_of_a_slow_one",
        ),
    ),
    Rule(
        35,
        "URLs of certificates that have verified a delivery are not limited, also after a restart",
        (
            Edit(
                "receiver/certificate_memory.py",
                "self._certificates.trust(await self._urls.read())",
                "await self._urls.read()",
            ),
        ),
        (f"{CERTIFICATE_MEMORY}after_a_restart_a_flood_does_not_keep_a_proven_certificate_out",),
    ),
    Rule(
        35,
        "what a flood keeps from being fetched at once is fetched later",
        (
            Edit(
                "receiver/certificates.py",
                "            budget.wait(url, scheme)\n",
                "            pass\n",
            ),
        ),
        (
            "tests/receiver/test_certificates_limits.py::test_what_had_to_wait_is_fetched_later_and_verifies_the_next_delivery",
        ),
    ),
    Rule(
        40,
        "before a signature has matched: the fields of a form are counted before it is split",
        (
            Edit(
                "hookmill/signatures/forms.py",
                """        if body.count(b"&") >= MAX_FIELDS:
            return TOO_MANY_FIELDS
        found""",
                "        found",
            ),
        ),
        (f"{FORMS}a_form_has_only_so_many_fields_and_a_value_so_many_bytes",),
    ),
    Rule(
        40,
        "before a signature has matched: a list of signatures has only so many items",
        (Edit("hookmill/signatures/content.py", "if len(listed) > MAX_ITEMS:", "if False:"),),
        (f"{A_LIST}has_only_so_many_items",),
    ),
    Rule(
        40,
        "before a signature has matched: a list in the body is no longer than a header may be",
        (Edit("hookmill/signatures/content.py", "if len(found) > MAX_LIST:", "if False:"),),
        (f"{A_LIST}in_the_body_is_no_longer_than_a_header_may_be",),
    ),
    Rule(
        40,
        "before a signature has matched: no long value in a JSON body is decoded",
        (
            Edit(
                "hookmill/signatures/body_places.py",
                "if memoryview(value).nbytes > MAX_VALUE:",
                "if False:",
            ),
        ),
        (f"{IN_BODIES}what_is_larger_than_any_sender_makes_it_is_refused",),
    ),
    Rule(
        40,
        "before a signature has matched: the names in a JSON body are counted",
        (
            Edit(
                "hookmill/signatures/body_places.py",
                'if body.count(b":") > MAX_NAMES else',
                "if False else",
            ),
        ),
        (f"{IN_BODIES}what_is_larger_than_any_sender_makes_it_is_refused",),
    ),
    Rule(
        41,
        "a secret that was withdrawn stops verifying",
        (
            Edit(
                "receiver/source_table.py",
                "before, self._sources = self._sources, dict(reloaded.sources)",
                "before, self._sources = self._sources, "
                "dict(reloaded.sources) | {n: o for n, o in self._sources.items() "
                "if n in reloaded.sources and reloaded.sources[n].source is None}",
            ),
        ),
        (
            f"{SOURCE_TABLE}a_secret_that_was_withdrawn_is_no_longer_served",
            f"{SOURCE_TABLE}a_faulty_table_does_not_keep_a_secret_that_was_withdrawn",
        ),
    ),
    Rule(
        41,
        "a secret stops when its time is over, and its source says so",
        (
            Edit(
                "receiver/source_table.py",
                "without = {name for name, number in usable.items() if not number}",
                "without = {name for name in usable if self._sources[name].source is None}",
            ),
        ),
        (f"{SOURCE_TABLE}a_secret_whose_time_is_over_leaves_its_source_without_one",),
    ),
    Rule(
        41,
        "what a file holds counts once two looks agree",
        (
            Edit(
                "receiver/file_looks.py",
                "if self._last.get(path) == look}",
                "if path in self._last}",
            ),
        ),
        (
            f"{FILE_LOOKS}a_content_counts_once_two_looks_agree",
            f"{FILE_LOOKS}a_file_that_is_away_for_one_look_stays",
        ),
    ),
    Rule(
        41,
        "a fault in one table touches only that source",
        (
            Edit(
                "hookmill/config/settings_again.py",
                "        if by_source.get(name) or unknown:\n",
                "        if by_source.get(name):\n"
                "            return SettingsAgain(before, {'': tuple(by_source[name])})\n"
                "        if unknown:\n",
            ),
        ),
        (f"{SOURCE_TABLE}a_fault_in_one_table_touches_only_that_source",),
    ),
    Rule(
        41,
        "a body that comes slowly is judged by the secrets of its end",
        (
            Edit(
                "receiver/http.py",
                "current = self._sources.get(source.path)",
                "current: Source | None = source",
            ),
        ),
        (f"{REVOCATION}a_body_that_comes_slowly_is_judged_by_the_secrets_of_its_end",),
    ),
    Rule(
        41,
        "a secret of fewer than eight bytes does not start",
        (Edit("hookmill/config/secrets.py", "SHORTEST = 8", "SHORTEST = 0"),),
        (f"{SOURCE_SECRETS}a_weak_secret_in_a_file_does_not_start_either",),
    ),
    Rule(
        42,
        "control characters are escaped",
        (
            Edit(
                "hookmill/printable.py",
                "    if text.isprintable() and (text.isascii() or not _INVISIBLE.search(text)):\n",
                "    if text:\n",
            ),
        ),
        (
            f"{HOSTILE}no_line_for_people_is_forged_or_steers_a_terminal",
            f"{PRINTABLE}any_text_becomes_one_line_that_can_be_written_to_a_terminal",
        ),
    ),
    Rule(
        42,
        "JSON shows as itself",
        (Edit("hookmill/printable.py", "    if data.isascii():", "    if data:"),),
        (
            f"{HOSTILE}no_line_for_programs_is_forged_or_steers_a_terminal",
            f"{PRINTABLE}json_keeps_its_value_and_shows_as_itself",
        ),
    ),
    Rule(
        42,
        "a cell cannot pass for two",
        (
            Edit(
                "hookmill/printable.py",
                r'return _BORDER.sub(r"\\x20", printable(text)) or "-"',
                'return printable(text) or "-"',
            ),
        ),
        (f"{PRINTABLE}any_cell_is_one_column",),
    ),
    Rule(
        42,
        "a pattern is matched in one pass",
        (
            Edit(
                "hookmill/handlers.py",
                "        start = text.find(part, start, end)\n",
                "        text.find(part, 0, end)\n        start = text.find(part, start, end)\n",
            ),
        ),
        (f"{HANDLERS}whatever_the_pattern_is_each_character_of_a_type_is_searched_once",),
    ),
    Rule(
        42,
        "credentials of senders are not stored",
        (
            Edit(
                "hookmill/stored_headers.py",
                "_CREDENTIALS.intersection(words) or last.endswith(_LAST_WORDS)",
                "_CREDENTIALS.intersection(words)",
            ),
        ),
        ("tests/test_stored_headers.py::test_a_credential_is_not_stored",),
    ),
    Rule(
        42,
        "no receiver starts with a window that is shorter than a delivery stays valid",
        (
            Edit(
                "hookmill/config/sources.py",
                "    faults = [fault] if fault else []\n",
                "    faults: list[str] = [] if fault else []\n",
            ),
        ),
        (f"{SHORT_WINDOWS}a_window_as_long_as_a_delivery_stays_valid_is_enough",),
    ),
    Rule(
        42,
        "no worker starts with one either",
        (Edit("worker/main.py", "if faults := window_faults(settings):", "if faults := []:"),),
        (f"{SHORT_WINDOWS}a_worker_does_not_start_with_a_window_that_is_too_short",),
    ),
    Rule(
        42,
        "nobody can try which topics are allowed",
        (
            Edit(
                "hookmill/signatures/sns.py",
                '        cause = "" if allowed is not None else _NOT_ALLOWED\n',
                '        cause = "" if allowed is not None else _NOT_ALLOWED\n'
                '        if cause:\n            return Refused("topic_not_allowed", cause)\n',
            ),
        ),
        (
            f"{SNS}nobody_can_try_which_topics_are_allowed",
            f"{SNS}the_log_says_that_a_topic_is_not_allowed_and_the_answer_does_not",
        ),
    ),
    Rule(
        42,
        "a text that a redacted path leads through is hidden",
        (
            Edit(
                "hookmill/redaction.py",
                "elif is_hidden or (left and first == b'\"'):",
                "elif is_hidden:",
            ),
        ),
        (f"{REDACTION}a_text_that_a_path_leads_through_is_hidden_whole",),
    ),
    Rule(
        42,
        "of a body that cannot be read nothing is shown where something is redacted",
        (
            Edit(
                "hookmill/redaction.py",
                '        return _whole(body, "it is neither JSON nor a form")\n',
                "        return body\n",
            ),
        ),
        (f"{REDACTION}a_body_that_cannot_be_read_for_certain_is_hidden_whole",),
    ),
    Rule(
        42,
        "what receivers have noted is hidden where a source has no table, too",
        (
            Edit(
                "hookmill/admin/redactions.py",
                "    for name, paths in noted.items():\n",
                "    for name, paths in ():\n",
            ),
        ),
        (f"{REDACTIONS}table_and_note_count_together_so_that_no_table_is_needed",),
    ),
    Rule(
        42,
        "nothing is shown before it was looked up what may be",
        (Edit("hookmill/admin/redactions.py", "if not self.is_known:", "if False:"),),
        (f"{REDACTIONS}nothing_is_shown_before_anybody_has_looked_what_may_be",),
    ),
    Rule(
        42,
        "a redacted value cannot be found out by searches",
        (
            Edit(
                "hookmill/admin/redactions.py",
                "if is_meant and is_redacted(names, paths):",
                "if is_meant and path in paths:",
            ),
        ),
        (f"{REDACTIONS}a_search_is_refused_where_its_answer_could_tell_what_is_hidden",),
    ),
    Rule(
        42,
        "no source fills the places of refused deliveries",
        (
            Edit(
                "hookmill/stream/scripts/claim_refused.lua",
                "if own >= math.ceil((most - total + own) / 2) then",
                "if total >= most then",
            ),
        ),
        (f"{REFUSED}no_source_takes_more_than_half_of_what_the_others_leave_free",),
    ),
    Rule(
        42,
        "a source has a refused delivery kept each ten seconds, and then less often",
        (
            Edit(
                "hookmill/stream/scripts/claim_refused.lua",
                "local wait = last and last + pause * (1 + math.floor(own / steps)) - now_ms or 0",
                "local wait = last and last + pause - now_ms or 0",
            ),
        ),
        (f"{REFUSED}a_source_gets_one_each_ten_seconds_and_the_more_it_has_the_later",),
    ),
    Rule(
        42,
        "refused deliveries are counted before one is explained",
        (
            Edit(
                "receiver/refused.py",
                "        self._next[source.name] = now + PAUSE\n",
                "",
            ),
            Edit(
                "receiver/refused.py",
                "                self._next[source.name] = self._clock() + place.wait\n",
                "",
            ),
        ),
        (f"{KEEPER}what_a_flood_costs_is_bounded_before_any_work_is_done",),
    ),
    Rule(
        42,
        "a refused delivery is kept without a signature that somebody could use",
        (
            Edit(
                "hookmill/debug/refusals.py",
                "(name, _LONG.sub(_shortened, value))",
                "(name, value)",
            ),
        ),
        (f"{KEPT}nobody_can_send_it_again_with_what_is_kept",),
    ),
    Rule(
        42,
        "a refused delivery is kept without redacted fields",
        (
            Edit(
                "hookmill/debug/refusals.py",
                "    paths = list(options.redact)\n",
                "    paths: list[str] = []\n",
            ),
        ),
        (f"{KEPT}redacted_fields_are_kept_nowhere",),
    ),
    Rule(
        42,
        "what a source redacts is not sent on to another program",
        (
            Edit(
                "hookmill/admin/forwarding.py",
                "if showable.of(message.source):",
                "if False:",
            ),
        ),
        (f"{FORWARDING}what_a_source_redacts_is_not_sent_on",),
    ),
    Rule(
        42,
        "deliveries are not sent on to another machine by a slip",
        (
            Edit(
                "hookmill/admin/forwarding.py",
                '    if not anywhere and not _is_here(parts.hostname or ""):\n',
                "    if not anywhere and False:\n",
            ),
        ),
        (f"{FORWARDING}another_machine_gets_nothing_unless_that_is_said",),
    ),
    # --- 43: what is kept of attempts ------------------------------------------------------------
    Rule(
        43,
        "an outcome that came too late is marked as such in the history",
        (lua("settle", "keep_one(one, 'late')", "keep_one(one, 'settled')"),),
        (f"{HISTORY}an_outcome_that_came_too_late_is_told_as_such",),
    ),
    Rule(
        43,
        "a history keeps no more successes than its bounds allow",
        (
            lua(
                "history",
                "if had <= most and bytes <= room / 2 and not is_older(",
                "if true or is_older(",
            ),
        ),
        (f"{HISTORY}the_oldest_successes_make_room_for_new_ones",),
    ),
    Rule(
        43,
        "and no more bytes of failures",
        (lua("history", "while bytes + adds > room / 2 and steps > 0 do", "while false do"),),
        (f"{HISTORY}a_storm_of_failures_stays_within_its_bytes",),
    ),
    Rule(
        43,
        "and no more failures of one message",
        (lua("history", "if length > MOST_SINGLES then", "if false then"),),
        (f"{HISTORY}one_message_keeps_its_last_failures_only",),
    ),
    Rule(
        43,
        "a history that cannot be written keeps no message from being settled",
        (lua("history", "pcall(write_history, most, room)", "write_history(most, room)"),),
        (f"{HISTORY}a_history_that_cannot_be_written_keeps_no_message_from_being_settled",),
    ),
    Rule(
        46,
        "what a stranger says about its trace makes nothing be recorded",
        (
            Edit(
                "receiver/traces.py",
                "if source.trusts_trace and (given",
                "if (given",
            ),
        ),
        (f"{TRACES}a_strangers_trace_is_a_link_and_does_not_make_us_record",),
    ),
    Rule(
        46,
        "whatever the user's SDK does, a delivery is taken",
        (
            Edit(
                "receiver/traces.py",
                "is_chosen=is_chosen)\n        except Exception as",
                "is_chosen=is_chosen)\n        except OSError as",
            ),
        ),
        (f"{TRACES}a_sampler_that_raises_costs_no_delivery",),
    ),
    Rule(
        46,
        "a spooled row keeps its trace",
        (
            Edit(
                "hookmill/stream/arrival.py",
                "            if name in self.fields:\n                fields[name]",
                "            if False:\n                fields[name]",
            ),
        ),
        (f"{TRACES}a_spooled_row_keeps_its_trace_in_the_version_that_older_receivers_read",),
    ),
    Rule(
        48,
        "a console that listens on this machine answers to names of this machine alone",
        (
            Edit(
                "hookmill/console/origins.py",
                "    if is_loopback(listens_on):\n",
                "    if False:\n",
            ),
        ),
        (f"{CONSOLE}a_name_that_leads_to_this_machine_is_refused",),
    ),
    Rule(
        48,
        "another site's form changes nothing in the console",
        (
            Edit(
                "hookmill/console/guard.py",
                "            fault = origin_fault(request.headers, url)\n",
                "            fault = None\n",
            ),
            Edit(
                "hookmill/console/guard.py",
                "not in _READING and not is_right(viewer, await _csrf(request)):",
                "not in _READING and False:",
            ),
        ),
        (f"{CONSOLE}a_form_of_another_page_or_site_is_refused",),
    ),
    Rule(
        48,
        "nothing of the console is shown before a login, where one is set",
        (
            Edit(
                "hookmill/console/guard.py",
                "            if viewer.role is None:\n",
                "            if False:\n",
            ),
        ),
        (f"{CONSOLE}with_a_token_nothing_is_shown_before_a_login",),
    ),
    Rule(
        48,
        "a reader of the console may not act",
        (
            Edit(
                "hookmill/console/console.py",
                "    if not request.viewer.may_act:\n",
                "    if False:\n",
            ),
        ),
        (f"{CONSOLE}a_reader_sees_no_buttons_and_may_not_act",),
    ),
    Rule(
        48,
        "the replay of one message replays no other",
        (
            Edit(
                "hookmill/admin/replays.py",
                "        if only:\n",
                "        if False:\n",
            ),
        ),
        (
            (
                "tests/console/test_replay_pages.py::"
                "test_a_handled_message_and_no_other_is_replayed_on_its_page"
            ),
        ),
    ),
    Rule(
        48,
        "how a body decodes tells nothing that is redacted",
        (
            Edit(
                "hookmill/admin/typed_bodies.py",
                "    is_open = shown.is_known and not shown.of(message.source)\n",
                "    is_open = True\n",
            ),
        ),
        ("tests/admin/test_typed_bodies.py::test_of_a_source_that_redacts_no_value_is_told",),
    ),
    Rule(
        48,
        "each value on a page of the console is escaped",
        (
            Edit(
                "hookmill/console/rendering.py",
                "            autoescape=True,\n",
                "            autoescape=False,\n",
            ),
        ),
        (f"{CONSOLE}hostile_texts_are_shown_everywhere_and_act_nowhere",),
    ),
    Rule(
        48,
        "a session of the console ends",
        (
            Edit(
                "hookmill/console/access.py",
                "        if found is None or self._has_ended(found):\n",
                "        if found is None:\n",
            ),
        ),
        (f"{CONSOLE_ACCESS}a_session_ends_when_it_is_idle_and_at_its_longest_time",),
    ),
    Rule(
        48,
        "the header of a proxy counts from that proxy alone",
        (
            Edit(
                "hookmill/console/access.py",
                "if plain_address(peer) in self._proxies and",
                "if self._proxies and",
            ),
        ),
        (f"{CONSOLE_ACCESS}nobody_else_does",),
    ),
    Rule(
        48,
        "failed logins count by the address that a trusted proxy says, and by no other's word",
        (
            Edit(
                "hookmill/console/access.py",
                "while address in self._proxies and listed and",
                "while listed and",
            ),
        ),
        (f"{CONSOLE_ACCESS}a_login_comes_from_where_the_trusted_proxy_and_nobody_else_says",),
    ),
    Rule(
        49,
        "a receiver that stops answers what the kernel has queued",
        (
            Edit(
                "receiver/listening.py",
                "        for _ in range(backlog()):\n",
                "        for _ in range(0):\n",
            ),
            Edit(
                "receiver/listening.py",
                "        for _ in range(_TURNS):\n",
                "        for _ in range(0):\n",
            ),
        ),
        (f"{LISTENING}connections_that_the_kernel_has_queued_are_answered",),
    ),
    Rule(
        49,
        "a receiver that stops awaits the first request of a new connection",
        (
            Edit(
                "receiver/http.py",
                "        while self._connections.has_new(_FIRST_REQUEST) and",
                "        while False and",
            ),
        ),
        (f"{LISTENING}the_first_request_of_a_new_connection_is_awaited",),
    ),
    Rule(
        49,
        "counts do not go back when a process ends",
        (
            Edit(
                "hookmill/runtime/summed_metrics.py",
                "if one.counts])",
                "if False])",
            ),
        ),
        (f"{SUMS}the_counts_of_a_process_that_has_ended_stay_and_its_gauges_go",),
    ),
    Rule(
        49,
        "wrong settings of one process do not end those that work",
        (
            Edit(
                "hookmill/runtime/supervisor.py",
                " and not any(seat.is_ready for seat in self._seats):",
                ":",
            ),
        ),
        (f"{SUPERVISOR}wrong_settings_of_one_that_died_do_not_end_those_that_work",),
    ),
)

# --- trying them ---------------------------------------------------------------------------------


class Ran(NamedTuple):
    """A run of tests: the names of those that failed, the first reason, and whether it ended in
    time.
    """

    failed: set[str]
    reason: str
    is_over: bool


def main(numbers: Sequence[str]) -> int:
    """Try the rules with these numbers, or all. Return 1 if a test did not fail as it has to."""
    chosen = [rule for rule in RULES if not numbers or str(rule.number) in numbers]
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="rules-") as name:
        folder = Path(name)
        tests = sorted({test for rule in chosen for test in rule.tests})
        with ThreadPoolExecutor(AT_A_TIME) as threads:
            halves = enumerate((tests[::2], tests[1::2]))
            broken = [
                one for half in threads.map(partial(untouched, folder), halves) for one in half
            ]
            for test in broken:
                print(f"fails although no rule is removed: {test}")
            if broken:
                return 1
            print(f"{len(tests)} tests pass while no rule is removed", flush=True)
            faults = 0
            for verdict in threads.map(partial(try_without, folder), enumerate(chosen)):
                print(verdict, flush=True)
                faults += "FAULT" in verdict
    print(f"{len(chosen)} rules tried, {faults} faults, {time.monotonic() - began:.0f} s")
    return 1 if faults else 0


def untouched(folder: Path, numbered: tuple[int, list[str]]) -> list[str]:
    """Return the tests that do not pass in an unchanged copy."""
    number, tests = numbered
    if not tests:
        return []
    ran = run(copy_of_the_tree(folder / f"untouched{number}"), tests, 2 * TIME_LIMIT)
    return [f"{test} {ran.reason}" for test in sorted(ran.failed)] if ran.is_over else tests


def try_without(folder: Path, numbered: tuple[int, Rule]) -> str:
    """Remove one rule from a copy and run its tests there. Return a line with the result."""
    number, rule = numbered
    line = f"rule {rule.number:>2}  {rule.says}: "
    tree = copy_of_the_tree(folder / f"without{number}")
    try:
        for edit in rule.edits:
            if fault := fault_of(edit, tree):
                return f"{line}FAULT, {fault}"
            path = tree / edit.file
            path.write_text(path.read_text().replace(edit.old, edit.new))
        ran = run(tree, rule.tests, TIME_LIMIT)
    finally:
        shutil.rmtree(tree)
    if passed := [test for test in rule.tests if test not in ran.failed]:
        return f"{line}FAULT, passes without the rule: {', '.join(passed)} {ran.reason}"
    return f"{line}its tests fail without it ({ran.reason[:100]})"


def fault_of(edit: Edit, tree: Path = ROOT) -> str:
    """Return why an edit cannot be made, or "" if it can."""
    found = (tree / edit.file).read_text().count(edit.old)
    return "" if found == 1 else f"{edit.old!r} occurs {found} times in {edit.file}"


def copy_of_the_tree(to: Path) -> Path:
    """Copy the files of the tree, also those that are not committed yet."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, check=True, capture_output=True, text=True,
    )  # fmt: skip
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, to / name)
    return to


def run(tree: Path, tests: Iterable[str], time_limit: float) -> Ran:
    """Run tests of a tree. They, and the programs that they start, use that tree's own code."""
    command = [sys.executable, "-m", "pytest", "-q", "--tb=no", "-rfE", "-p", "no:cacheprovider"]
    try:
        done = subprocess.run(
            [*command, f"--timeout={time_limit / 3:.0f}", *tests],
            cwd=tree, timeout=time_limit, check=False, capture_output=True, text=True,
            env=os.environ | {"PYTHONPATH": str(tree), "PATH": EMBEDDED_ALONE, "COLUMNS": "300"},
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return Ran(set(), f"not finished within {time_limit:.0f} s", is_over=False)
    rows = [
        row.split(" ", 1)[1] for row in done.stdout.splitlines() if row[:6] in {"FAILED", "ERROR "}
    ]
    rows = [row for row in rows if "::" in row]
    reason = rows[0].rpartition(" - ")[2] if rows else done.stdout.strip().rpartition("\n")[2]
    failed = {row.split(" - ")[0].split("[")[0] for row in rows}
    return Ran(failed, reason, is_over=done.returncode in {0, 1})


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
