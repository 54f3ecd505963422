"""An endpoint on loopback to deliver to."""

from tests.debug.endpoint import endpoint

__all__ = ["endpoint"]
