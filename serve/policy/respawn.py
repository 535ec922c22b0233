"""When a replica that died is started again (rule 19): at once, then after waits that grow as long as it keeps dying.

The waits are those of Kubernetes' crash-loop backoff, from a tenth of a second to half a minute.
"""

FIRST_NS = 100_000_000
LONGEST_NS = 30_000_000_000
STEADY_NS = 60_000_000_000
"""One that was up for so long has died for the first time again."""


def wait_ns(deaths):
    """How long to wait before the start of a replica that has died `deaths` times in a row before."""
    if deaths > 8:
        return LONGEST_NS
    return min(FIRST_NS << deaths, LONGEST_NS)


def in_a_row(deaths, up_ns):
    """Deaths in a row before this one, which came after it had been up for `up_ns`."""
    return 0 if up_ns >= STEADY_NS else deaths
