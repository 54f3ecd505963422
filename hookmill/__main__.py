"""`python -m hookmill`: the same as the `hookmill` command."""

import sys

# Python put the current directory first (unless it was asked not to); a user's own worker.py
# there must not hide ours.
if not sys.flags.safe_path:
    del sys.path[0]

from hookmill.cli import main

main()
