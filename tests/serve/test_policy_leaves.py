"""What makes the leaves one rulebook for two clocks: they are pure and compile to the same answers."""

from __future__ import annotations

import ast
import copy
import inspect
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numba
import numpy as np
import pytest

from serve import policy
from serve.policy import admission, batching, codes, front, service
from serve.policy.engines import tf_serving, torchserve, triton, workers
from serve.policy.service import COLD_KNOTS
from serve.records import Outcome, Reason

FOLDER = Path(policy.__file__).parent
FILES = sorted([*FOLDER.glob("*.py"), *FOLDER.glob("engines/*.py")])
MODULES: list[ModuleType] = [admission, batching, front, service, tf_serving, torchserve, triton, workers]
LEAVES = [leaf for module in MODULES for _, leaf in inspect.getmembers(module, inspect.isfunction)]
WORDS_ALLOWED = {"int"}
"""What a leaf may call."""


@pytest.mark.parametrize("path", FILES, ids=[path.stem for path in FILES])
def test_leaves_import_nothing_but_codes(path: Path) -> None:
    """No clock, no random numbers, no numpy: whatever a leaf knows, it was handed."""
    tree = ast.parse(path.read_text())
    imported = [n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)]
    assert not [n for n in ast.walk(tree) if isinstance(n, ast.Import)]
    assert set(imported) <= {"serve.policy.codes"}


@pytest.mark.parametrize("leaf", LEAVES, ids=[leaf.__name__ for leaf in LEAVES])
def test_a_leaf_calls_no_function_keeps_no_state_and_uses_no_power_or_loop(leaf: Callable[..., Any]) -> None:
    """Whole numbers, comparisons and + - * / only: what rounds differently between compilers stays out."""
    tree = ast.parse(inspect.getsource(leaf))
    calls = {getattr(n.func, "id", None) for n in ast.walk(tree) if isinstance(n, ast.Call)}
    assert calls <= WORDS_ALLOWED
    forbidden = (ast.Pow, ast.Global, ast.Nonlocal, ast.While, ast.For, ast.Attribute)
    assert not [n for n in ast.walk(tree) if isinstance(n, forbidden)]
    assert inspect.getdoc(leaf)


def _arguments(leaf: Callable[..., Any], rng: np.random.Generator) -> tuple[Any, ...]:
    """Small random arguments of the right kind, so that ties and both sides of every comparison occur."""
    given: list[Any] = []
    for name in inspect.signature(leaf).parameters:
        if name == "params":
            given.append(rng.integers(0, 6, front.FRONT_PARAM_COUNT))
        elif name == "view":
            high = [7, 7, 2, 6, 2] if leaf is triton.step else [7, 6, 2]
            given.append(tuple(int(v) for v in rng.integers(0, high)))
        elif name == "state":
            given.append(np.where(rng.random(2) < 0.3, codes.NEVER_NS, rng.integers(0, 6, 2)))
        elif name == "kind":
            given.append(int(rng.integers(0, 7)))
        elif name == "event":
            given.append(int(rng.choice([codes.EVENT_ARRIVAL, codes.BATCHING_FREE, codes.BATCHING_FIRST])))
        elif name == "table":
            given.append(rng.integers(0, 10**9, 8 * 8 << 6))
        elif name == "curve":
            given.append(np.cumsum(rng.integers(0, 10**6, 8 + COLD_KNOTS)))
        elif name == "per_mille":
            given.append(int(rng.integers(0, 4000)))
        elif name == "idle_ns":
            given.append(int(2 ** rng.uniform(10, 30)))
        elif name == "level":
            given.append(float(rng.uniform(0.5, 2)))
        elif name == "draw":
            given.append(int(rng.integers(2**62)))
        else:
            given.append(int(rng.integers(-1 if name.startswith("max") or name == "budget_ns" else 1, 7)))
    return tuple(given)


@pytest.mark.parametrize("leaf", LEAVES, ids=[leaf.__name__ for leaf in LEAVES])
def test_the_compiled_leaf_decides_as_the_python_one(leaf: Callable[..., Any]) -> None:
    compiled = numba.njit(leaf)
    rng = np.random.default_rng(3)
    answers = set()
    for _ in range(500):
        arguments = _arguments(leaf, rng)
        others = copy.deepcopy(arguments)  # a leaf may write its state
        answer = leaf(*arguments)
        assert compiled(*others) == answer
        assert all(np.array_equal(a, b) for a, b in zip(arguments, others, strict=True))
        answers.add(answer)
    assert len(answers) > 1, "arguments that lead to one answer only test nothing"
    assert len(compiled.signatures) == 1, "int64 everywhere: a second type is compiled again"


def _group(prefix: str) -> dict[str, int]:
    return {
        name: value for name, value in vars(codes).items() if name.startswith(prefix) and not name.endswith("_COUNT")
    }


@pytest.mark.parametrize("prefix", ["REASON_", "OUTCOME_", "CAUSE_", "EVENT_"])
def test_codes_are_distinct_and_counted(prefix: str) -> None:
    values = sorted(_group(prefix).values())
    assert values == list(range(values[0], values[0] + len(values)))
    if f"{prefix}COUNT" in vars(codes):
        assert vars(codes)[f"{prefix}COUNT"] == values[-1] + 1


@pytest.mark.parametrize(("prefix", "names"), [("REASON_", Reason), ("OUTCOME_", Outcome)])
def test_every_code_has_its_name_in_the_row(prefix: str, names: type[Reason] | type[Outcome]) -> None:
    assert {f"{prefix}{member.name}": member.value for member in names} == _group(prefix)


def test_the_order_of_one_instant() -> None:
    """An end frees before control acts, arrivals join before a window closes, a deadline strikes last."""
    order = sorted(_group("EVENT_"), key=_group("EVENT_").__getitem__)
    assert [name.removeprefix("EVENT_").lower() for name in order] == [
        "ended", "front", "control", "answered", "retry", "arrival", "delivered", "given_up", "cancel", "window",
        "deadline",
    ]  # fmt: skip
