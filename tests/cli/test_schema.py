"""`hookmill schema`: the document alone on stdout, everything else on stderr."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.running import hookmill

SHOP = """
import hookmill
print("what a module prints is not the document's")

class OrderPaid(hookmill.Event, tag="order.paid", aliases=("order.payed",)):
    order_id: str

handlers = hookmill.Handlers()

@handlers.on(OrderPaid)
async def send_receipt(delivery): ...
"""


@pytest.mark.parametrize(
    ("command", "env"),
    [
        (["shop:handlers"], {}),
        (["shop"], {}),
        ([], {"HOOKMILL_HANDLERS": "shop:handlers"}),
        # Nothing but the target is needed: not even sound settings.
        (["shop:handlers"], {"PORT": "eighty"}),
    ],
)
def test_the_schema_of_ones_own_events_is_all_that_stdout_holds(
    command: list[str], env: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "shop.py").write_text(SHOP)

    answer = hookmill("schema", *command, env=env, folder=tmp_path)

    assert (answer.returncode, answer.stderr) == (0, "what a module prints is not the document's\n")
    assert list(json.loads(answer.stdout)["$defs"]) == ["order.paid", "order.payed"]


def test_the_schema_of_a_catalogue_comes_as_an_asyncapi_document_too() -> None:
    answer = hookmill("schema", "--asyncapi", "hookmill.catalog.marble", env={"LC_ALL": "C"})

    assert (answer.returncode, answer.stderr) == (0, "")
    document = json.loads(answer.stdout)
    assert (document["asyncapi"], document["info"]["title"]) == ("3.0.0", "hookmill.catalog.marble")
    assert len(document["operations"]) == len(document["components"]["messages"]) == 16


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (
            [],
            "no events: give MODULE:ATTRIBUTE of the handlers, or a module such as hookmill.",
        ),
        (["no.such"], "'no.such': there is no module 'no' in {folder}"),
        (["no.such:handlers"], "'no.such:handlers': there is no module 'no' in {folder}"),
        (["shop."], "'shop.': name MODULE:ATTRIBUTE, or a module such as app.events"),
        (["plain"], "'plain' declares no event: name a module with classes such as class"),
        (["plain:handlers"], "'plain:handlers': no handler is for an event class, so there"),
        (["twice:handlers"], "two classes are called 'order.paid' on the wire, shop.OrderPaid and"),
        (["ending"], "'ending' cannot be imported: SystemExit"),
        (["broken"], "'broken' cannot be imported: ModuleNotFoundError"),
        (["broken:handlers"], "'broken:handlers' cannot be imported: ModuleNotFoundError"),
        (["badly_named"], "Bad: tag: '' cannot be a name on the wire: give printable text without"),
    ],
)
def test_what_has_no_schema_is_said_on_stderr_and_ends_in_2(
    command: list[str], said: str, tmp_path: Path
) -> None:
    files = {
        "shop": SHOP,
        "plain": "from hookmill import Handlers\nhandlers = Handlers()\n"
        "handlers.on('*', name='all')(lambda delivery: None)",
        "twice": "import shop\nfrom shop import *\n"
        "class Mine(hookmill.Event, tag='order.paid'): ...\n"
        "handlers.on(Mine, name='mine')(shop.send_receipt)",
        "ending": "raise SystemExit(0)",
        "broken": "import no_such_module",
        "badly_named": "from hookmill import Event\nclass Bad(Event, tag=''): ...",
    }
    for name, text in files.items():
        (tmp_path / f"{name}.py").write_text(text)

    answer = hookmill("schema", *command, folder=tmp_path)

    assert (answer.returncode, answer.stdout) == (2, "")
    last = answer.stderr.splitlines()[-1]
    assert last.startswith(f"hookmill: {said.format(folder=tmp_path)}")
    if "cannot be imported" in said:
        assert "Traceback (most recent call last):" in answer.stderr
