"""Tables for people stay readable, whatever they are given."""

from __future__ import annotations

from io import StringIO

from rich.console import Console, RenderableType

from forebay.tables import CLASSES_SHOWN, SHARES_SHOWN, result_lines, result_table, run_table
from planner.report import Run
from sim.result import Result
from tests.examples import example


def text_of(renderable: RenderableType) -> str:
    """What a person reads of it."""
    out = StringIO()
    Console(file=out, width=120).print(renderable)
    return out.getvalue()


def with_classes(count: int) -> Result:
    one = example("result")
    return one.model_copy(update={"classes": {f"c{i:03}": one.total for i in range(count)}})


def test_of_many_classes_the_first_are_shown_and_the_rest_counted() -> None:
    told = text_of(result_table(with_classes(200)))
    assert "c007.p99" in told and "c008.p99" not in told
    assert "and 192 more classes: --json has all" in told


def test_few_classes_are_all_shown() -> None:
    told = text_of(result_table(with_classes(CLASSES_SHOWN)))
    assert "c007.p99" in told and "more classes" not in told


def test_a_live_run_of_many_classes_too() -> None:
    run = example("report").runs[0]
    run = run.model_copy(update={"metrics": {"p99": 1.0}, "classes": {f"c{i:03}": {"p99": 1.0} for i in range(200)}})
    assert isinstance(run, Run)
    told = text_of(run_table(run))
    assert "c007.p99" in told and "c008.p99" not in told and "and 192 more classes" in told


def test_of_many_batch_sizes_the_most_frequent_are_shown_in_order() -> None:
    shares = {rows: (2.0 if rows % 100 == 0 else 1.0) / 4110 for rows in range(1, 4097)}
    line = result_lines(example("result").model_copy(update={"batch_rows": shares}))[-1]
    told = line.removeprefix("batches by rows: ").split(", ")
    assert len(told) == SHARES_SHOWN + 1
    assert [int(each.split()[0]) for each in told[:-1]] == [100 * k for k in range(1, 17)]
    assert told[-1] == f"and {4096 - SHARES_SHOWN} more: --json has all"
