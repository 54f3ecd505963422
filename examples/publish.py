"""Publishes an event. Start `hookmill dev`, set the QSTASH_URL that it shows, run this file."""

import asyncio

from hookmill import Event, Sender, SendError


class OrderPaid(Event, tag="order.paid"):
    order_id: str
    amount: int


async def main() -> None:
    async with Sender() as sender:  # uses QSTASH_URL and QSTASH_TOKEN
        try:
            published = await sender.send(
                "http://127.0.0.1:8080/qstash",
                OrderPaid(order_id="A-1001", amount=4200),
                delay="10s",
                retries=5,
                failure_callback="http://127.0.0.1:8080/qstash-callbacks",
            )
        except SendError as error:
            known = "it may be published" if error.may_be_published else "it is not published"
            print(f"{known}; send it again with the ID {error.deduplication_id}: {error}")
        else:
            print(f"published as {published.message_id}")


if __name__ == "__main__":
    asyncio.run(main())
