"""Ours: as many replicas as the profile says the load needs when a new replica could be ready (rule 20).

What a count of replicas carries within the SLO comes from the simulator, as a table; busy share and requests in flight
mislead under batching. The load to come is the season before, shifted by how much higher the load is now than then
(seasonal-naive with drift; Hyndman and Athanasopoulos, Forecasting, 3rd ed., 5.2), or a straight line through the last
while until a season is known. Never less than what arrives now: a spike that nobody forecast is followed at once.

Rates are in thousandths of a request per second, all arithmetic is of whole numbers.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

from serve.policy.scaling.decision import Decision
from serve.policy.scaling.nanoseconds import MINUTE_NS, SECOND_NS

RECENT = 2
"""Intervals that make up the present rate: one alone scatters too much, many would be late."""


@dataclass(frozen=True, slots=True)
class PredictiveSettings:
    """
    Parameters
    ----------
    capacity_milli_rps : by number of replicas, from 1 on: the rate that holds the SLO; never falls. More replicas than
        it tells of carry as much more as the last one did.
    horizon_ns : how long it takes from wanting a replica to its being ready: the measured p95 of provisioning and
        start-up.
    lookback_ns : what the trend rests on.
    season_ns : length of a season, such as a day; 0: none is looked for.
    margin_percent : by which capacity exceeds the forecast.
    hold_ns : fewer replicas are wanted only if fewer have been enough for so long.
    interval_ns : how often `decide` is called.
    """

    capacity_milli_rps: tuple[int, ...]
    min_replicas: int = 1
    max_replicas: int = 100
    horizon_ns: int = MINUTE_NS
    lookback_ns: int = 10 * MINUTE_NS
    season_ns: int = 0
    margin_percent: int = 10
    hold_ns: int = 5 * MINUTE_NS
    interval_ns: int = 10 * SECOND_NS


class PredictiveSample(NamedTuple):
    """What is known at a tick: `arrivals` counts all since the start and never falls; `replicas` is the count set."""

    now_ns: int
    arrivals: int
    replicas: int


class Forecast(NamedTuple):
    """The highest rate expected within the horizon, and what says so."""

    milli_rps: int
    by: str


class Predictive:
    """One queue's autoscaler."""

    def __init__(self, settings: PredictiveSettings) -> None:
        table = settings.capacity_milli_rps
        assert table and table[0] > 0 and list(table) == sorted(table), "capacities ascend"
        self.settings = settings
        reach_ns = max(settings.lookback_ns, settings.season_ns + settings.lookback_ns if settings.season_ns else 0)
        self._rates: deque[int] = deque(maxlen=max(RECENT, reach_ns // settings.interval_ns))
        self._before: PredictiveSample | None = None
        self._needs: deque[tuple[int, int]] = deque()  # (instant, replicas needed), needs falling

    def decide(self, sample: PredictiveSample) -> Decision:
        """How many replicas are wanted now. The first call only begins to count."""
        before, self._before = self._before, sample
        if before is None:
            return self._bounded(sample.replicas, "no rate is known yet")
        span_ns = sample.now_ns - before.now_ns
        self._rates.append((sample.arrivals - before.arrivals) * 1000 * SECOND_NS // span_ns)
        forecast = self.forecast()
        demand = forecast.milli_rps * (100 + self.settings.margin_percent) // 100
        needed = replicas_for(demand, self.settings.capacity_milli_rps)
        why = f"{forecast.by}: {forecast.milli_rps / 1000:g}/s within {self.settings.horizon_ns / 1e9:g} s"
        held = self._held(sample.now_ns, needed)
        if held > needed:
            return self._bounded(held, f"{why} needs {needed}; held at {held}, needed not long ago")
        return self._bounded(needed, f"{why} needs {needed}")

    def forecast(self) -> Forecast:
        """The highest rate within the horizon; at least one interval must have passed."""
        rates, each_ns = self._rates, self.settings.interval_ns
        now = _mean(islice(reversed(rates), min(RECENT, len(rates))))
        ahead = -(-self.settings.horizon_ns // each_ns)
        lookback = max(RECENT, self.settings.lookback_ns // each_ns)
        season = self.settings.season_ns // each_ns
        if season and len(rates) >= season + RECENT:
            expected, by = _seasonal(list(rates), season, ahead, lookback), "season"
        else:
            expected, by = _trend(list(rates)[-lookback:], ahead), "trend"
        return Forecast(now, "now") if now >= expected else Forecast(expected, by)

    def _held(self, now_ns: int, needed: int) -> int:
        """The most that was needed within `hold_ns`, now included."""
        while self._needs and self._needs[-1][1] <= needed:
            self._needs.pop()
        self._needs.append((now_ns, needed))
        while self._needs[0][0] < now_ns - self.settings.hold_ns:
            self._needs.popleft()
        return self._needs[0][1]

    def _bounded(self, wanted: int, reason: str) -> Decision:
        least, most = self.settings.min_replicas, self.settings.max_replicas
        if wanted < least:
            return Decision(least, f"{reason}; at least {least}")
        if wanted > most:
            return Decision(most, f"{reason}; at most {most}")
        return Decision(wanted, reason)


def replicas_for(milli_rps: int, capacity_milli_rps: tuple[int, ...]) -> int:
    """The fewest replicas that carry a rate; beyond the table each carries what the last one added.

    >>> [replicas_for(rate, (300, 620)) for rate in (0, 300, 301, 621, 941)]
    [0, 1, 2, 3, 4]
    """
    if milli_rps <= 0:
        return 0
    known = len(capacity_milli_rps)
    if milli_rps <= capacity_milli_rps[-1]:
        return bisect_left(capacity_milli_rps, milli_rps) + 1
    before = capacity_milli_rps[-2] if known > 1 else 0
    each = max(1, capacity_milli_rps[-1] - before)
    return known + -(-(milli_rps - capacity_milli_rps[-1]) // each)


def _trend(rates: list[int], ahead: int) -> int:
    """The higher end, now and `ahead` intervals on, of the least-squares line through the last rates."""
    count = len(rates)
    mean = _mean(rates)
    if count < 3:
        return mean
    # Twice the distance from the middle is whole; its square sums to count (count^2 - 1) / 3.
    moment = sum((2 * i - count + 1) * rate for i, rate in enumerate(rates))
    squares = count * (count * count - 1) // 3
    ends = (count - 1, count - 1 + 2 * ahead)
    return max(0, *(mean + moment * end // squares for end in ends))


def _seasonal(rates: list[int], season: int, ahead: int, lookback: int) -> int:
    """The highest rate a season before the next `ahead` intervals, moved by what the load is above that time."""
    end = len(rates) - season
    span = min(lookback, end)
    shift = _mean(rates[-span:]) - _mean(rates[end - span : end])
    return max(0, max(rates[end : end + ahead], default=_mean(rates[-RECENT:])) + shift)


def _mean(values: object) -> int:
    listed = list(values)  # type: ignore[call-overload]
    return sum(listed) // len(listed) if listed else 0
