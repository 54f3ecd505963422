"""Redis as a service: what such a service refuses, refused by a server here.

`docs/reference/redis-services.md` says of which services we know it from their documents.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import redis

from tests.ports import free_port
from tests.support import MARBLE_SECRET, Program, Server

REFUSED = (
    *(
        "acl",
        "bgrewriteaof",
        "bgsave",
        "client|setinfo",
        "client|unblock",
        "config",
        "debug",
        "memory",
    ),
    *(
        "migrate",
        "module",
        "monitor",
        "psync",
        "replicaof",
        "save",
        "shutdown",
        "sync",
        "wait",
        "waitaof",
    ),
)
"""What at least one of the services refuses, and all that together."""


@pytest.mark.one_server
def test_a_delivery_is_handled_where_the_server_refuses_what_services_refuse(
    own_server: Callable[..., Server], start_program: Callable[..., Program], tmp_path: Path
) -> None:
    server, port = own_server(), free_port()
    with redis.Redis.from_url(server.url) as admin:
        rules = [f"-{command}" for command in REFUSED]
        admin.execute_command(
            "ACL", "SETUSER", "tenant", "on", ">pass", "~*", "&*", "+@all", *rules
        )
    (tmp_path / "handlers.py").write_text(
        "from hookmill import Handlers\nhandlers = Handlers()\n\n"
        "@handlers.on('*')\nasync def any(delivery):\n    print('ran', delivery.id, flush=True)\n"
    )
    env = {"REDIS_URL": server.url.replace("redis://", "redis://tenant:pass@")}
    secret = {"MARBLE_WEBHOOK_SECRET": MARBLE_SECRET}
    at = {"PORT": str(port), "HOOKMILL_HOST": "127.0.0.1"}
    receiver = start_program("receiver", env=env | secret | at)
    worker = start_program("worker", "handlers:handlers", env=env)
    receiver.wait_for('"receiving"')
    worker.wait_for('"working"')
    url = f"http://127.0.0.1:{port}/marble"
    sent = start_program("send", "--source", "marble", "--url", url, env=secret)
    assert sent.wait() == 0, sent.log
    worker.wait_for("ran ")
    assert (receiver.stop(), worker.stop()) == (0, 0)
    assert '"level":"error"' not in receiver.log + worker.log
