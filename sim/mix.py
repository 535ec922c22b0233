"""How each class of a workload arrives: by a law of its own, or as a share of the arrivals that classes have together.

Classes that share arrivals are parts of one process: each request is of one of them, drawn by their weights, so that
the burst of one is the burst of all. Pure.
"""

from __future__ import annotations

from collections.abc import Callable

from sim.laws import Arrivals, Thinned
from sim.scenario import RequestClass, Workload

Part = tuple[float, float]
"""From where to before where in [0, 1) the numbers lie that requests of a class draw."""


def part_of(workload: Workload, name: str) -> Part | None:
    """The part of the workload's arrivals that are of a class, in the order of the file; None if it has its own."""
    if workload.classes[name].arrivals is not None:
        return None
    weights = {other: _weight(class_) for other, class_ in workload.classes.items() if class_.arrivals is None}
    names, total = list(weights), sum(weights.values())
    at = names.index(name)
    before = sum(weights[other] for other in names[:at])
    # The last one ends at 1, whatever the sum of quotients: no request is of nobody.
    return before / total, 1.0 if at == len(names) - 1 else (before + weights[name]) / total


def _weight(class_: RequestClass) -> float:
    return 1.0 if class_.weight is None else class_.weight


def law_of(workload: Workload, name: str) -> Arrivals:
    """The law by which the requests of a class arrive, by themselves."""
    own, part = workload.classes[name].arrivals, part_of(workload, name)
    if own is not None:
        return own
    assert workload.arrivals is not None and part is not None
    low, high = part
    thinned = Thinned.model_construct(of=workload.arrivals, keep=high - low)
    return Arrivals.model_construct(_fields_set={"thinned"}, thinned=thinned)


def apart(workload: Workload) -> dict[str, RequestClass]:
    """The classes, each with its law: at the same rates, and no longer parts of one process."""
    return {
        name: class_.model_copy(update={"arrivals": law_of(workload, name), "weight": None})
        for name, class_ in workload.classes.items()
    }


def with_laws(workload: Workload, change: Callable[[Arrivals], Arrivals]) -> Workload:
    """The workload with every law that it states replaced by what `change` makes of it."""
    classes = {
        name: class_ if class_.arrivals is None else class_.model_copy(update={"arrivals": change(class_.arrivals)})
        for name, class_ in workload.classes.items()
    }
    update = (
        {"classes": classes}
        if workload.arrivals is None
        else {"classes": classes, "arrivals": change(workload.arrivals)}
    )
    return workload.model_copy(update=update)
