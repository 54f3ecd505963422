"""`python -m hookmill`: the same as the `hookmill` command."""

import sys

# Python put the current directory first (unless it was asked not to); what we import must not be
# hidden by a user's own module of that name.
if not sys.flags.safe_path:
    del sys.path[0]

from hookmill.cli.main import main

main()
