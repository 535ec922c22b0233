"""Real traces are read by the laws that docs/files.md gives for them, and what is shipped is what it says of them.

The traces lie beside the repository, in ../shared/data/traces, or where FOREBAY_TRACES points; they are not shipped.
"""

from __future__ import annotations

import csv
import gzip
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from forebay.fitting import fit_counts, fit_file
from sim import counts, traces
from sim.dispersion import gap_cv
from sim.law_moments import rate_rps
from sim.laws import Arrivals
from tests.sim.point_processes import S, instants

ROOT = Path(__file__).resolve().parents[2]
TRACES = Path(os.environ.get("FOREBAY_TRACES", ROOT.parent / "shared/data/traces"))
SHIPPED = ROOT / "scenarios/traces"
WORLD_CUP_MINUTE = 45 * 1440 + 16 * 60 + 8
"""From 1998-04-30 21:30, where the trace begins, to 1998-06-15 13:38, where the shipped hour does."""

pytestmark = pytest.mark.skipif(not TRACES.is_dir(), reason=f"needs the traces in {TRACES}, which are not shipped")


def drawn(law: dict[str, Any], seconds: float) -> np.ndarray[Any, Any]:
    """Instants of a law whose files are those traces."""
    return instants(law, seconds, base=TRACES)


def test_the_shipped_twitter_day_is_the_sum_of_its_seconds() -> None:
    seconds = counts.load(TRACES / "twitter_persec_d01_11.csv.gz")
    day = counts.load(SHIPPED / "twitter-day.csv")
    assert len(seconds) == 950_400
    assert len(day) == 23.5 * 360
    assert np.array_equal(day, seconds[: len(day) * 10].reshape(-1, 10).sum(axis=1))


def test_the_shipped_world_cup_hour_is_around_the_busiest_half_hour() -> None:
    minutes = counts.load(TRACES / "worldcup98_permin_to_0619.csv.gz")
    hour = counts.load(SHIPPED / "worldcup98-hour.csv")
    assert np.array_equal(hour, minutes[WORLD_CUP_MINUTE : WORLD_CUP_MINUTE + len(hour)])
    halves = np.convolve(minutes, np.ones(30), "valid")
    begin = int(np.argmax(halves)) - WORLD_CUP_MINUTE
    assert 0 <= begin <= len(hour) - 30


@pytest.mark.parametrize(
    ("law", "cut", "requests"),
    [
        (
            {"file": "twitter_persec_d01_11.csv.gz", "interval": "1s", "from": "12h", "to": "13h"},
            (43_200, 46_800),
            None,
        ),
        ({"file": "worldcup98_permin_to_0619.csv.gz", "interval": "1min", "from": "0h", "to": "1h"}, (0, 60), None),
        (
            {"file": "servegen_m-large_10min.csv.gz", "interval": "10min", "column": "rate_per_s", "scale": 600},
            (0, 6),
            [127_668, 107_819],
        ),
    ],
    ids=["twitter", "world cup", "servegen"],
)
def test_counts_are_replayed_as_often_as_they_say(
    law: dict[str, Any], cut: tuple[int, int], requests: list[int] | None
) -> None:
    read = counts.load(TRACES / law["file"], law.get("column", "count"))[slice(*cut)] * law.get("scale", 1)
    at_ns = drawn({"counts": {**law, "within": "uniform"}}, 3600)
    intervals = np.bincount(at_ns * len(read) // (3600 * S), minlength=len(read))
    assert np.abs(np.cumsum(intervals) - np.cumsum(read)).max() <= 0.5
    assert requests is None or np.abs(intervals[:2] - requests).max() <= 1


@pytest.mark.parametrize(
    ("file", "requests", "cv"),
    [
        ("azure_llm_2023_code.csv.gz", 8_819, 13),
        ("mooncake_conversation.csv.gz", 12_031, None),
        ("alibaba_genai_2024_first.csv.gz", 13_411, None),
    ],
)
def test_instants_are_replayed(file: str, requests: int, cv: float | None) -> None:
    at_ns, rows = traces.load(TRACES / file)
    assert (len(at_ns), rows) == (requests, None), "tokens and images are no rows"
    assert np.array_equal(drawn({"trace": {"file": file}}, float(at_ns[-1]) / S + 1), at_ns)
    found = gap_cv(np.diff(at_ns))
    assert cv is None or found == pytest.approx(cv, rel=0.05)


def test_servegens_clients_are_laws_of_gaps() -> None:
    """Of each client its rate and shape (p1): the sum of the largest ones in one 10 minutes."""
    with gzip.open(TRACES / "servegen_m-large_top12_clients.csv.gz", "rt") as file:
        clients = [row for row in csv.DictReader(file) if row["t_s"] == "0"]
    laws = []
    for row in clients:
        rate, shape = f"{float(row['rate']):.6g}/s", float(row["p1"])
        if row["dist"] == "Weibull":
            laws.append({"weibull": {"rate": rate, "shape": shape}})
        else:
            laws.append({"gamma": {"rate": rate, "cv": shape**-0.5}})
    whole = rate_rps(Arrivals.model_validate({"sum": laws}))
    assert whole == pytest.approx(sum(float(row["rate"]) for row in clients), rel=1e-4)
    assert len(clients) > 5


def test_fits_of_real_traces() -> None:
    azure = fit_file(TRACES / "azure_llm_2023_code.csv.gz", 0)
    assert azure.measured.rate_rps == pytest.approx(2.57, rel=0.01)
    assert azure.fits[0].law.poisson is None, "bursts of code completions are not Poisson"
    tweets = fit_counts(TRACES / "twitter_persec_d01_11.csv.gz", S, "count", 1.0, 0)
    assert tweets.measured.rate_rps == pytest.approx(63.87, rel=0.001)
    assert tweets.fits[0].law.diurnal is not None
    assert tweets.measured.scales[-1].idc > 1000 * tweets.measured.scales[0].idc > 10_000
