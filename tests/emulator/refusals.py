"""How a test reads what the API refuses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from hookmill.emulator.models import ApiError


def refusal(call: Callable[..., Any], *args: Any, **named: Any) -> str:
    """Return the text of the refusal, which has status 400."""
    with pytest.raises(ApiError) as caught:
        call(*args, **named)
    assert caught.value.status == 400
    return caught.value.text


def outcome(read: Callable[..., Any], *given: Any) -> Any:
    """What is read, or the refusal."""
    try:
        return read(*given)
    except ApiError as error:
        return error


def is_fine(found: Any) -> bool:
    return not isinstance(found, ApiError) or found.status == 400
