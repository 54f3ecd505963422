"""Opens the stream for a worker, and checks that it may work there."""

from __future__ import annotations

import structlog

from hookmill.config.settings import DEFAULT_GROUP, Settings
from hookmill.errors import (
    GroupRefusedError,
    PartitionsError,
    SettingsError,
    StreamUnavailableError,
)
from hookmill.stream.client import Client
from hookmill.stream.groups import Groups
from hookmill.stream.open_connections import ASKING_CONNECTIONS
from hookmill.stream.reply_errors import AccessRefusedError
from hookmill.stream.rights import check_rights

log = structlog.get_logger("worker")


async def check_stream(settings: Settings) -> None:
    """Refuse to start if the consumer group cannot be used, or if the stream exists with another
    number of partitions.
    """
    async with client_of(settings) as client:
        try:
            await check_rights(client, "worker")
            await Groups(client).check(settings.group, may_make=makes_group(settings))
            await client.agree_on_partitions()
        except (GroupRefusedError, PartitionsError) as error:
            raise SettingsError([str(error)]) from None
        except AccessRefusedError as error:
            raise SettingsError([f"{settings.redis_variable}: {error}"]) from None
        except StreamUnavailableError as error:
            # The pool waits for Redis, and checks again.
            log.warning("Redis cannot be used yet", error=str(error))


def makes_group(settings: Settings) -> bool:
    """Return whether the group is made by its first worker, and not by `hookmill group add`."""
    return settings.group == DEFAULT_GROUP


def client_of(settings: Settings) -> Client:
    """Return a client of the stream that the settings name."""
    return Client(
        settings.need_redis_url(),
        settings.prefix,
        partitions=settings.partitions,
        url_file=settings.redis_url_file,
        connections=ASKING_CONNECTIONS,
    )
