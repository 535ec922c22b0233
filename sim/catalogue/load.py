"""Reading price files: the shipped one, and a user's own laid over it.

An entry of the user's file (a machine of a region, a commitment by its name) replaces the shipped one as a whole, or is
added; nothing is mixed within an entry. A commitment holds for all machines that it fits, the shipped ones too. Each
file names its own sources, so that no figure of the user's passes as one of the catalogue's.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from functools import cache
from operator import itemgetter
from pathlib import Path

from serve.errors import Fault, SpecError
from serve.faults import dotted, near_miss
from serve.files import load, read
from sim.catalogue.offers import Catalogue, Commitment, Key, Offer, Quote
from sim.catalogue.price_file import Kind, Machine, Payment, Price, PriceFile, Rate, Source, Term

__all__ = ["SHIPPED", "Catalogue", "Offer", "load_catalogue"]

SHIPPED = Path(__file__).with_name("prices.yaml")

CitedRate = tuple[Rate, Source]
Place = tuple[str | int, ...]


def load_catalogue(path: Path | None = None) -> Catalogue:
    """The shipped catalogue, with the price file at `path` laid over it if one is given.

    Raises
    ------
    SpecError : every fault of that file.
    """
    price_files = [_shipped()] if path is None else [_shipped(), _checked(path)]
    rates: dict[str, CitedRate] = {}
    for prices in price_files:
        for name, rate in prices.commitments.items():
            rates.pop(name, None)  # What replaces a rate comes after all that it is laid over, as what is added does.
            rates[name] = rate, prices.sources[rate.source]
    return Catalogue(
        {
            (provider, machine_type, region): _offer(
                (provider, machine_type, region), machine, prices.sources, rates.values()
            )
            for prices in price_files
            for provider, regions in prices.machines.items()
            for region, machines in regions.items()
            for machine_type, machine in machines.items()
        }
    )


@cache
def _shipped() -> PriceFile:
    return _checked(SHIPPED)


def _checked(path: Path) -> PriceFile:
    """The price file at `path`, whose every source is one of its own; SpecError with all faults."""
    prices: PriceFile | None = None
    faults: list[Fault] = []
    try:
        prices = load(path, PriceFile)
    except SpecError as error:
        faults = error.faults
    told = {fault.field for fault in faults}
    faults = [*faults, *(fault for fault in _unknown_sources(path) if fault.field not in told)]
    if prices is None or faults:
        raise SpecError(faults)
    return prices


def _unknown_sources(path: Path) -> list[Fault]:
    """Sources that figures name and the file does not have; read from the raw file, whose other parts may be broken."""
    try:
        data = read(path)
    except SpecError:
        return []
    sources = data.get("sources", {})
    if not isinstance(sources, dict):
        return []  # a fault already, of which these would be consequences
    known = [str(name) for name in sources]
    return [
        Fault(str(path), dotted(place), f"is no source of this file, got {name!r}; {_meant(name, known)}")
        for part in ("machines", "commitments")
        for place, name in _citations(data.get(part), (part,))
        if name not in known
    ]


def _meant(name: str, known: list[str]) -> str:
    return near_miss(name, known) if known else "describe it under sources"


def _citations(node: object, place: Place) -> Iterator[tuple[Place, str]]:
    """Every source that is named below a node, with its place."""
    if not isinstance(node, dict):
        return
    for key, inner in node.items():
        if key == "source" and isinstance(inner, str):
            yield (*place, key), inner
        else:
            yield from _citations(inner, (*place, key))


def _offer(key: Key, machine: Machine, sources: Mapping[str, Source], rates: Collection[CitedRate]) -> Offer:
    provider, machine_type, region = key
    return Offer(
        provider=provider,
        machine_type=machine_type,
        region=region,
        vcpus=machine.vcpus,
        memory_bytes=machine.memory,
        accelerator=machine.accelerator,
        on_demand=_quote(machine.on_demand, sources),
        spot=None if machine.spot is None else _quote(machine.spot, sources),
        interruptions=None if machine.spot is None else machine.spot.interruptions,
        commitments=_commitments(key, machine, sources, rates),
    )


def _quote(price: Price, sources: Mapping[str, Source]) -> Quote:
    return Quote(price.price, price.origin, sources[price.source])


def _commitments(
    key: Key, machine: Machine, sources: Mapping[str, Source], rates: Collection[CitedRate]
) -> tuple[Commitment, ...]:
    """One for each kind, term and payment: its list price, else the rate that is meant most closely for its type.

    Of rates meant equally closely the later one holds, which is the user's.
    """
    provider, machine_type, _ = key
    closeness = [(rate.closeness(provider, machine_type), rate, source) for rate, source in rates]
    holding = [(near, rate, source) for near, rate, source in closeness if near is not None]
    found: dict[tuple[Kind, Term, Payment], Quote] = {}
    for _, rate, source in sorted(holding, key=itemgetter(0)):
        usd_per_h = machine.on_demand.price * (1 - rate.discount)
        found[rate.kind, rate.term, rate.payment] = Quote(usd_per_h, rate.origin, source)
    for term, by_payment in machine.reserved.items():
        for payment, price in by_payment.items():
            found["reserved", term, payment] = _quote(price, sources)
    return tuple(Commitment(kind, term, payment, quote) for (kind, term, payment), quote in found.items())
