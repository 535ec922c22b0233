"""Spans of time in ns, the unit of every instant and setting in this package."""

SECOND_NS = 10**9
MINUTE_NS = 60 * SECOND_NS
