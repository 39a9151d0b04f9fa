"""What people do with the commands and the pages, on whole installations.

A package, so that the installations that many tests share end with the last of them.
"""
