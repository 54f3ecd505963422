"""Which errors are tried again, from the options `retry_on` and `dead_on` of a handler."""

from __future__ import annotations

from typing import Any

import pytest

from hookmill import Dead, Discard, Handlers, Retry
from hookmill.error_rules import ErrorRules, leaves_of
from hookmill.errors import HandlersError


class RefusedError(ConnectionRefusedError, ValueError):
    """An error of two kinds. The first of its bases decides."""


@pytest.mark.parametrize(
    ("retry_on", "dead_on", "error", "retries"),
    [
        ((), (), ValueError(), True),
        ((), (), SystemExit(), True),
        # Only dead_on: all others are retried.
        ((), (ValueError,), ValueError(), False),
        ((), (ValueError,), UnicodeError(), False),
        ((), (ValueError,), OSError(), True),
        # Only retry_on: all others are dead at once.
        ((OSError,), (), OSError(), True),
        ((OSError,), (), TimeoutError(), True),
        ((OSError,), (), ValueError(), False),
        ((OSError,), (), SystemExit(), False),
        # Both: the most specific class decides.
        ((OSError,), (PermissionError,), PermissionError(), False),
        ((OSError,), (PermissionError,), ConnectionError(), True),
        ((OSError,), (PermissionError,), ValueError(), False),
        ((TimeoutError,), (OSError,), TimeoutError(), True),
        ((TimeoutError,), (OSError,), PermissionError(), False),
        ((Exception, TimeoutError), (OSError,), ValueError(), True),
        ((BaseException,), (Exception,), SystemExit(), True),
        ((ValueError,), (ConnectionError,), RefusedError(), False),
        ((ConnectionRefusedError,), (ValueError,), RefusedError(), True),
        # A group is retried if all of its errors are.
        ((OSError,), (), ExceptionGroup("", [TimeoutError(), OSError()]), True),
        ((OSError,), (), ExceptionGroup("", [TimeoutError(), ValueError()]), False),
        ((), (ValueError,), ExceptionGroup("", [OSError(), OSError()]), True),
        (
            (),
            (ValueError,),
            ExceptionGroup("", [OSError(), ExceptionGroup("", [ValueError()])]),
            False,
        ),
    ],
)
def test_the_most_specific_class_decides_whether_an_error_is_tried_again(
    retry_on: tuple[Any, ...], dead_on: tuple[Any, ...], error: BaseException, *, retries: bool
) -> None:
    assert ErrorRules(retry_on, dead_on).retries(error) is retries
    assert ErrorRules(retry_on[::-1], dead_on[::-1]).retries(error) is retries


def test_the_errors_of_a_group_come_in_their_order() -> None:
    one, two, three = ValueError(1), ValueError(2), KeyError(3)
    group = ExceptionGroup("", [one, ExceptionGroup("", [two]), three])

    assert list(leaves_of(group)) == [one, two, three]
    assert list(leaves_of(one)) == [one]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            {"retry_on": (OSError, ValueError), "dead_on": (ValueError,)},
            "'order.paid' has ValueError in retry_on and in dead_on: remove it from one",
        ),
        ({"dead_on": ValueError}, r"dead_on of 'order.paid': give a tuple .*\(ValueError,\)"),
        ({"retry_on": [ValueError]}, "retry_on of 'order.paid': give a tuple"),
        ({"retry_on": ("ValueError",)}, "'ValueError' is not an exception class"),
        ({"retry_on": (int,)}, "<class 'int'> is not an exception class"),
        ({"dead_on": (ValueError(),)}, r"ValueError\(\) is not an exception class"),
        ({"dead_on": (Retry,)}, "Retry says itself what becomes of the message"),
        ({"retry_on": (Discard,)}, "Discard says itself"),
        ({"retry_on": (Dead,)}, "Dead says itself"),
        ({"retry_on": (ExceptionGroup,)}, "ExceptionGroup is a group, .* name their classes"),
    ],
)
def test_rules_that_contradict_each_other_or_name_no_errors_are_refused_at_once(
    options: dict[str, Any], said: str
) -> None:
    with pytest.raises(HandlersError, match=said):
        Handlers().on("order.paid", **options)
