"""Fleets and price books for the tests of the bill: by hand, and drawn at random.

By hand: type `c` at 0.40 USD/h, spot 0.16; type `g` at 2.00 USD/h, spot 0.60; a run of one hour from 8:00.
"""

from dataclasses import replace
from datetime import datetime
from typing import Any, Literal

from hypothesis import strategies as st

from sim.billing.bill import Figures, bill
from sim.billing.commitments import YEAR_H, Reservation, SavingsPlan
from sim.billing.prices import Extras, PriceBook, SpotPrice, TypePrice
from sim.billing.usage import (
    CrossZone,
    FleetUsage,
    NodeUsage,
    Owner,
    ReplicaUsage,
    up_of_replicas,
)
from tests.sim.billing.batches import BatchUsage, RequestRows, work_of_batches

S = 10**9
EIGHT = datetime(2026, 3, 2, 8)
BOOK = PriceBook(
    {
        "c": TypePrice(0.40, SpotPrice.constant(0.16), refund_first_hour=True),
        "g": TypePrice(2.00, SpotPrice.constant(0.60), refund_first_hour=True),
    }
)
RESERVED = Reservation("reserved", "c", 1, usd_per_h=0.25)


def node(node_id: int = 0, start_s: float = 0, until_s: float | None = 3600, **changes: Any) -> NodeUsage:
    """A node of type c with four cores, bought on demand, ready at once."""
    start_ns, until_ns = round(start_s * S), None if until_s is None else round(until_s * S)
    return replace(NodeUsage(node_id, "base", "c", "a", "on_demand", 4, start_ns, start_ns, until_ns), **changes)


def spot(until_s: float | None = 3600, start_s: float = 0, **changes: Any) -> NodeUsage:
    return node(0, start_s, until_s, buy="spot", pool="spot", **changes)


def nodes(count: int, until_s: float = 3600, **changes: Any) -> list[NodeUsage]:
    """So many at once."""
    return [node(i, 0, until_s, **changes) for i in range(count)]


def fleet(*held: NodeUsage, end_s: float = 3600, **parts: Any) -> FleetUsage:
    return FleetUsage(round(end_s * S), held, **parts)


def book(**parts: Any) -> PriceBook:
    return replace(BOOK, **parts)


def of_c(**changes: Any) -> PriceBook:
    """The book with another price of type c."""
    return book(types={**BOOK.types, "c": replace(BOOK.types["c"], **changes)})


def plan(usd_per_h: float, name: str = "plan", upfront_usd: float = 0.0, **discounts: float) -> PriceBook:
    """The book with one savings plan."""
    return book(savings_plans=(SavingsPlan(name, usd_per_h, discounts, upfront_usd=upfront_usd),))


def figures(usage: FleetUsage, prices: PriceBook = BOOK, starts: datetime = EIGHT) -> Figures:
    return bill(usage, prices, starts).total


def machine_hours(usage: FleetUsage, prices: PriceBook = BOOK, starts: datetime = EIGHT) -> dict[str, float]:
    """Node-hours by kind of line, those of machines."""
    hours: dict[str, float] = {}
    for line in bill(usage, prices, starts).lines:
        if line.kind in ("on_demand", "committed", "spot"):
            hours[line.kind] = hours.get(line.kind, 0.0) + line.quantity
    return hours


# -- at random ---------------------------------------------------------------------------------------------

END_S = 3 * 3600
OWNERS = [
    Owner("digits", "interactive", (("team", "search"),)),
    Owner("digits", "nightly"),
    Owner("faces", "upload", (("team", "photos"), ("tier", "free"))),
]
USD = st.floats(0.01, 10)


@st.composite
def random_nodes(draw: st.DrawFn, node_id: int) -> NodeUsage:
    start_s = draw(st.integers(-600, END_S - 1))
    released_s = draw(st.none() | st.integers(start_s, END_S))
    ready_s = draw(st.none() | st.integers(start_s, END_S if released_s is None else released_s))
    buy: Literal["on_demand", "spot"] = draw(st.sampled_from(("on_demand", "on_demand", "spot")))
    return NodeUsage(
        node_id=node_id,
        pool=draw(st.sampled_from(("base", "spill"))),
        type=draw(st.sampled_from(("c", "g"))),
        zone="a",
        buy=buy,
        cores=draw(st.integers(1, 8)),
        handed_over_ns=start_s * S,
        first_ready_ns=None if ready_s is None else ready_s * S,
        released_ns=None if released_s is None else released_s * S,
        reclaimed=buy == "spot" and released_s is not None and draw(st.booleans()),
    )


def _requests() -> st.SearchStrategy[tuple[RequestRows, ...]]:
    one = st.builds(RequestRows, st.sampled_from(OWNERS), st.integers(1, 16), st.booleans())
    return st.lists(one, min_size=1, max_size=3).map(tuple)


@st.composite
def fleets(draw: st.DrawFn) -> FleetUsage:
    """Up to four nodes in a run of three hours, with batches (some of too many threads), replicas and traffic."""
    held = [draw(random_nodes(node_id)) for node_id in range(draw(st.integers(0, 4)))]
    batches, replicas = [], []
    for one in held:
        until_ns = one.held_until_ns(END_S * S)
        ready_ns = until_ns if one.first_ready_ns is None else max(0, one.first_ready_ns)
        if ready_ns >= until_ns:
            continue
        for _ in range(draw(st.integers(0, 3))):
            start_ns = draw(st.integers(ready_ns, until_ns - 1))
            end_ns = draw(st.integers(start_ns + 1, until_ns))
            threads = draw(st.integers(1, one.cores + 2))
            batches.append(BatchUsage(one.node_id, threads, start_ns, end_ns, draw(_requests())))
        for model in draw(st.lists(st.sampled_from(("digits", "faces")), max_size=2)):
            up_ns = draw(st.integers(ready_ns, until_ns - 1))
            replicas.append(ReplicaUsage(one.node_id, model, draw(st.integers(1, 4)), up_ns, until_ns))
    traffic = st.builds(CrossZone, st.integers(0, END_S // 60 - 1), st.sampled_from(OWNERS), st.integers(0, 2**40))
    return FleetUsage(
        end_ns=END_S * S,
        nodes=tuple(held),
        work=work_of_batches(batches),
        up=up_of_replicas(replicas),
        cross_zone=tuple(draw(st.lists(traffic, max_size=3))),
    )


def reservations(name: str) -> st.SearchStrategy[Reservation]:
    return st.builds(
        Reservation,
        st.just(name),
        st.sampled_from(("c", "g")),
        st.integers(1, 3),
        upfront_usd=st.floats(0, 5000),
        usd_per_h=USD,
    )


@st.composite
def savings_plans(draw: st.DrawFn, name: str) -> SavingsPlan:
    usd_per_h = draw(USD)
    discounts = draw(st.dictionaries(st.sampled_from(("c", "g")), st.floats(0, 0.9)))
    upfront_usd = usd_per_h * YEAR_H * draw(st.floats(0, 1))
    return SavingsPlan(name, usd_per_h, discounts, upfront_usd=upfront_usd)


@st.composite
def books(draw: st.DrawFn) -> PriceBook:
    """Two types with spot prices that change, up to two reservations and two savings plans, and extras."""
    types = {}
    for type_ in ("c", "g"):
        spot_price = SpotPrice((0, 4000 * S), (draw(USD), draw(USD)))
        types[type_] = TypePrice(draw(USD), spot_price, draw(st.integers(0, 120)), draw(st.booleans()))
    return PriceBook(
        types,
        reservations=tuple(draw(reservations(f"reserved{i}")) for i in range(draw(st.integers(0, 2)))),
        savings_plans=tuple(draw(savings_plans(f"plan{i}")) for i in range(draw(st.integers(0, 2)))),
        extras=Extras(*(draw(st.sampled_from((0.0, 0.02))) for _ in range(3))),
    )


def starts() -> st.SearchStrategy[datetime]:
    return st.datetimes(datetime(2026, 1, 1), datetime(2026, 12, 30))
