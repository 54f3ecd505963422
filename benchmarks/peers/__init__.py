"""Other people's servers and workers, each a script that runs in an environment of its own.

`with_NAME.py` needs what NAME.txt pins, and nothing of ours but `counting.py` beside it.
"""
