"""The catalogue in memory: what a machine of a type and region has, and every way to buy it with its price.

Made by `load`; nothing here reads files. Prices are USD per hour of one machine.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches

from serve.faults import near_miss
from serve.spec import Origin
from sim.catalogue.price_file import Accelerator, Band, Kind, Payment, Source, Term

Key = tuple[str, str, str]
"""Provider, machine type, region."""

SHOWN = 3
"""Names listed where the unknown one is near none of very many."""


@dataclass(frozen=True, slots=True)
class Quote:
    """A price and where it is from."""

    usd_per_h: float
    origin: Origin
    source: Source


@dataclass(frozen=True, slots=True)
class Commitment:
    """A machine bought for a term; upfront sums are spread over its hours, used or not."""

    kind: Kind
    term: Term
    payment: Payment
    quote: Quote


@dataclass(frozen=True, slots=True)
class Offer:
    """A machine type in a region: its hardware and its prices."""

    provider: str
    machine_type: str
    region: str
    vcpus: int
    memory_bytes: int
    accelerator: Accelerator | None
    on_demand: Quote
    spot: Quote | None
    interruptions: Band | None
    """Share of such spot machines that were reclaimed within a month; None: not known."""
    commitments: tuple[Commitment, ...]
    """At most one for each kind, term and payment."""

    @property
    def key(self) -> Key:
        """What it is looked up by."""
        return self.provider, self.machine_type, self.region

    def committed(self, kind: Kind, term: Term, payment: Payment) -> Quote | None:
        """Its price under a commitment; None if none is known."""
        wanted = (kind, term, payment)
        return next((c.quote for c in self.commitments if (c.kind, c.term, c.payment) == wanted), None)

    def quotes(self) -> dict[str, Quote]:
        """All its prices by how it is bought: `on_demand`, `spot`, `reserved 1y no_upfront`, ..."""
        uncommitted = {"on_demand": self.on_demand}
        if self.spot is not None:
            uncommitted["spot"] = self.spot
        return uncommitted | {f"{c.kind} {c.term} {c.payment}": c.quote for c in self.commitments}


@dataclass(frozen=True, slots=True)
class Catalogue:
    """Offers by provider, machine type and region, in the order of the files that they came from."""

    offers: Mapping[Key, Offer]

    def offer(self, provider: str, machine_type: str, region: str) -> Offer:
        """The offer of a machine type in a region.

        Raises
        ------
        LookupError : there is none; its text says which of the three is unknown and what is near.
        """
        found = self.offers.get((provider, machine_type, region))
        if found is None:
            raise LookupError(self._unknown(provider, machine_type, region))
        return found

    def only_offer(self, machine_type: str, provider: str | None = None, region: str | None = None) -> Offer:
        """The one offer of a machine type, by a provider and in a region if they are named.

        Raises
        ------
        LookupError : there is none, or there are several; its text says what is near, or what to name.
        """
        offers = [offer for offer in self.offers.values() if offer.machine_type == machine_type]
        if not offers:
            names = list(dict.fromkeys(key[1] for key in self.offers))
            raise LookupError(f"has no known price, got {machine_type!r}; {_nearest(machine_type, names)}")
        for field, wanted in (("provider", provider), ("region", region)):
            known = list(dict.fromkeys(str(getattr(offer, field)) for offer in offers))
            if wanted is not None and wanted not in known:
                what = f"has no known price of {field} {wanted!r}, got {machine_type!r}"
                raise LookupError(f"{what}; {near_miss(wanted, known)}")
            offers = [offer for offer in offers if wanted in (None, getattr(offer, field))]
        if len(offers) > 1:
            places = ", ".join(f"{offer.provider} {offer.region}" for offer in offers)
            raise LookupError(f"is sold in several places ({places}), got {machine_type!r}; name one of them")
        return offers[0]

    def _unknown(self, provider: str, machine_type: str, region: str) -> str:
        providers = list(dict.fromkeys(key[0] for key in self.offers))
        if provider not in providers:
            return f"no price of provider {provider!r} is known; {near_miss(provider, providers)}"
        types = list(dict.fromkeys(key[1] for key in self.offers if key[0] == provider))
        if machine_type not in types:
            return f"no price of {provider}'s machine type {machine_type!r} is known; {_nearest(machine_type, types)}"
        regions = [key[2] for key in self.offers if key[:2] == (provider, machine_type)]
        return f"no price of {machine_type} in region {region!r} is known; {near_miss(region, regions)}"


def _nearest(word: str, names: list[str]) -> str:
    """As `near_miss`, but for names too many to be shown."""
    if len(names) <= SHOWN or get_close_matches(word, names, n=1):
        return near_miss(word, names)
    return f"{len(names)} are known, such as {', '.join(names[:SHOWN])}"
