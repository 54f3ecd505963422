"""How a body decodes is said, and nothing that is redacted."""

from __future__ import annotations

from hookmill.admin.redactions import NOT_LOOKED_UP, Showable
from hookmill.admin.typed_bodies import known_classes, typed_body
from hookmill.events import Event
from tests.support import message


class OrderPaid(Event, tag="order.paid"):
    email: str
    amount: int = 0


class Broken(Event, tag="broken"):
    @classmethod
    def from_message(cls, message: object) -> Broken:
        raise RuntimeError(f"{message!r} is broken")


CLASSES = known_classes([OrderPaid, Broken])
GOOD = message(b'{"email": "ada@example.org", "amount": 7}', type="order.paid", source="shop")
BAD = message(b'{"email": "ada@example.org", "amount": "ada"}', type="order.paid", source="shop")


def test_fields_and_errors_are_shown_of_classes_that_are_known() -> None:
    good = typed_body(GOOD, Showable(), CLASSES)
    assert good is not None
    assert good.fields == (("email", '"ada@example.org"'), ("amount", "7"))
    bad = typed_body(BAD, Showable(), CLASSES)
    assert bad is not None
    assert (bad.fields, "`$.amount`" in bad.error) == ((), True)
    assert typed_body(message(type="other"), Showable(), CLASSES) is None
    assert typed_body(message(b" " * 2_000_000, type="order.paid"), Showable(), CLASSES) is None
    broken = typed_body(message(type="broken"), Showable(), CLASSES)
    assert broken is not None
    assert "is broken" in broken.error
    assert "post.published" in CLASSES


def test_of_a_source_that_redacts_no_value_is_told() -> None:
    for shown in (Showable({"shop": ("email",)}), NOT_LOOKED_UP):
        for one in (GOOD, BAD, message(b"ada", type="broken", source="shop")):
            told = typed_body(one, shown, CLASSES)
            assert told is not None
            assert "ada" not in repr(told)
