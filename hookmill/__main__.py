"""`python -m hookmill`: the same as the `hookmill` command."""

import sys

# Python puts the current directory first in `sys.path` (unless it is told not to). A user's module
# in it must not hide a module that we import.
if not sys.flags.safe_path:
    del sys.path[0]

from hookmill.cli.entry import main

main()
