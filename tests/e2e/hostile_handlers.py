"""The handlers of `test_hostile_texts`: they log what the sender wrote, and fail with it."""

from __future__ import annotations

import logging
import os

import structlog

from hookmill import Backoff, Delivery, Handlers, Message

handlers = Handlers()
log = structlog.get_logger("app")


@handlers.on("*", attempts=int(os.environ["ATTEMPTS"]), backoff=Backoff(first=7200.0))
async def tell(delivery: Delivery[Message]) -> None:
    """Log the texts in each way there is, then raise them."""
    message = delivery.message
    texts: dict[str, object] = {message.type: message.type, "headers": dict(message.headers)}
    log.info(message.type, body=message.body.decode(), **texts)
    logging.getLogger("library").warning("library %s", message.type)
    try:
        raise ValueError(message.type)
    except ValueError:
        log.exception("failed")
        raise
