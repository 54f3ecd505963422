"""`python -m hookmill`: the same as the `hookmill` command."""

import sys

# Python put the current directory first; a user's own worker.py there must not hide ours.
sys.path[:] = sys.path[1:]

from hookmill.cli import main  # noqa: E402 - after the path is clean

main()
