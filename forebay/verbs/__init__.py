"""The verbs of `forebay`, one a file: parse flags, call the package that does the work, print what came of it.

A module here imports at its top only what its signature needs.
"""
