"""Servers and workers of other projects. Each is a script with an environment of its own.

`with_NAME.py` needs the packages that NAME.txt pins, and of our code only `counting.py`.
"""
