"""Dead letters to try things on."""

from tests.burying import bury, emptied

__all__ = ["bury", "emptied"]
