"""Dead letters to try things on."""

from tests.given_up import emptied, give_up

__all__ = ["emptied", "give_up"]
