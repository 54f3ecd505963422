"""The console: web pages that show the running system and steer it.

It decides nothing: what it shows and does is in `hookmill/admin/`.
"""
