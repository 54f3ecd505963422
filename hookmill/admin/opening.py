"""Opens the stream of the settings for an operator's command."""

from __future__ import annotations

from hookmill.config.settings import Settings
from hookmill.stream.client import Client
from hookmill.stream.view import open_view


async def open_stream(settings: Settings) -> Client:
    """Open the stream with the number of partitions that it was made with. In a Redis Cluster
    `unseen` of the client has the partitions that cannot be asked now. The caller closes it.
    """
    return await open_view(settings.need_redis_url(), settings.prefix, settings.partitions)
