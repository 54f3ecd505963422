"""The workers: which are sick, what each says of itself and holds, its free hands, its stacks."""

from __future__ import annotations

from hookmill.admin import stacks as stack_requests
from hookmill.admin.units import moment
from hookmill.admin.worker_checks import sick_workers
from hookmill.console.console import Console, need_operator, operator_of
from hookmill.console.pages import Moved, PageRefusedError, Request, Shown
from hookmill.console.rendering import in_url
from hookmill.stream.stacks import StackRequests


async def workers(console: Console, _: Request) -> Shown:
    """Show the workers of all groups."""
    seen = await console.watch.overview()
    lease = console.settings.lease
    groups = []
    for group in seen.groups:
        pending = {one.name: one.pending for one in group.consumers}
        sick = sick_workers(group, lease)
        named = {one.name for one in sick}
        silent = group.without_heartbeat
        names = [*(one.name for one in group.heartbeats), *(one.name for one in silent)]
        groups.append(
            {
                "name": group.name,
                "sick": sick,
                "alive": [
                    (one, pending.get(one.name, one.held), one.name in named)
                    for one in group.heartbeats
                ],
                "silent": [(one, one.name in named) for one in silent],
                "can_answer": {n for n in names if stack_requests.can_answer(group, n)},
            }
        )
    return Shown("workers.html", {"groups": groups}, "workers")


async def ask_for_stacks(console: Console, request: Request) -> Moved:
    """Ask a worker where its threads and tasks are."""
    need_operator(request)
    group, _ = await console.group_of(request)
    if group is None:
        raise PageRefusedError(404, "there is no group")
    settings = console.settings.model_copy(update={"group": group.name})
    client, worker = await console.backend.client(), request.named["worker"]
    await stack_requests.ask(settings, worker, operator_of(request), client=client)
    return Moved.with_query(f"/workers/{in_url(worker)}/stacks", {"group": group.name})


async def stacks(console: Console, request: Request) -> Shown:
    """Show what a worker has said."""
    group, _ = await console.group_of(request)
    if group is None:
        raise PageRefusedError(404, "there is no group")
    worker = request.named["worker"]
    requests = StackRequests(await console.backend.client(), group.name)
    is_asked, said = await requests.read(worker)
    values = {
        "group": group.name,
        "worker": worker,
        "is_asked": is_asked,
        "said": said,
        "at": moment(said.at_ms) if said else "",
        "within": stack_requests.answers_within(group, worker, console.settings.lease),
    }
    return Shown("stacks.html", values, "workers" if is_asked else "")
