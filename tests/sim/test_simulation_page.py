"""What docs/simulation.md says is true: its program runs, and its tables name what there is."""

import re
from pathlib import Path
from typing import get_args

import pytest

from sim.measures import DELAYS
from sim.replication import TIME_BINS
from sim.result import Verdict
from sim.scenario import Arrivals
from sim.service import BITS, OWN_TAIL_SAMPLES
from sim.verdict import PRECISION

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "simulation.md").read_text()


def test_its_program_runs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(ROOT)
    (program,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    exec(compile(program, "docs/simulation.md", "exec"), {})
    verdict, p99 = capsys.readouterr().out.rsplit(maxsplit=1)
    assert verdict in get_args(Verdict)
    assert 0 < float(p99) < 10


def test_it_describes_every_verdict_law_and_part() -> None:
    for name in (*get_args(Verdict), *DELAYS):
        assert f"`{name}`" in PAGE, name
    for name in Arrivals.model_fields:
        assert f"| `{name}:" in PAGE, name


def test_its_constants_are_the_codes() -> None:
    assert f"of {2**BITS:,} equally likely times" in PAGE
    assert f"than {OWN_TAIL_SAMPLES} samples" in " ".join(PAGE.split()).replace("fewer than", "than")
    assert f"{TIME_BINS} time bins" in PAGE
    assert f"to be known to {PRECISION:.0%}".replace("%", " %") in PAGE
