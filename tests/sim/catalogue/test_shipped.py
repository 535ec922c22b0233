"""The catalogue that is shipped: every figure has its provenance, none contradicts another, some are known by heart."""

from __future__ import annotations

import re
from datetime import date
from itertools import pairwise

import pytest

from serve.units import parse_bytes
from sim.catalogue.load import SHIPPED, load_catalogue
from sim.catalogue.offers import Offer

CATALOGUE = load_catalogue()
OFFERS = list(CATALOGUE.offers.values())
LATEST = date(2026, 9, 6)
"""Day of the youngest figure that the catalogue was made from."""


def accelerator_of(offer: Offer) -> tuple[str, float, int] | None:
    """Name, count and memory of an offer's accelerator."""
    has = offer.accelerator
    return None if has is None else (has.name, has.count, has.memory)


def test_each_line_of_the_data_is_an_offer_of_its_own() -> None:
    lines = re.findall(r"^      (\S+): \{vcpus: ", SHIPPED.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert len(lines) == 160
    assert [offer.machine_type for offer in OFFERS] == lines
    assert [offer.key for offer in OFFERS] == list(CATALOGUE.offers)


def test_every_figure_has_a_document_an_address_a_licence_and_a_day() -> None:
    for offer in OFFERS:
        for bought, quote in offer.quotes().items():
            source = quote.source
            assert source.document, (offer.key, bought)
            assert source.licence, (offer.key, bought)
            assert (source.url or "").startswith("https://"), (offer.key, bought)
            assert date(2025, 1, 1) <= source.date <= LATEST, (offer.key, bought)


def test_no_price_is_above_on_demand_and_none_is_free() -> None:
    """There are no exceptions: the file would have to give their reason."""
    assert "exception:" not in SHIPPED.read_text(encoding="utf-8")
    for offer in OFFERS:
        for bought, quote in offer.quotes().items():
            assert 0 < quote.usd_per_h <= offer.on_demand.usd_per_h, (offer.key, bought)


def test_spot_prices_of_aws_are_on_demand_less_a_saving_in_whole_per_cent() -> None:
    """They were rounded to 1e-5 USD: half of that is 0.007 per cent of the least price, 0.0725 USD/h."""
    derived = [(offer, offer.spot) for offer in OFFERS if offer.provider == "aws" and offer.spot is not None]
    assert len(derived) == 90
    for offer, spot in derived:
        saving_percent = 100 * (1 - spot.usd_per_h / offer.on_demand.usd_per_h)
        assert saving_percent == pytest.approx(round(saving_percent), abs=0.0075), offer.key
        assert spot.origin == "projected"
        assert offer.interruptions is not None


def test_spot_prices_of_azures_newer_gpus_are_one_ratio_of_on_demand() -> None:
    """A formula of their source rather than a market, as docs/estate.md says."""
    ratios = {
        offer.accelerator.name: round(offer.spot.usd_per_h / offer.on_demand.usd_per_h, 4)
        for offer in OFFERS
        if offer.provider == "azure" and offer.accelerator is not None and offer.spot is not None
    }
    assert ratios.pop("NVIDIA T4") == 0.2836
    assert ratios == dict.fromkeys(("NVIDIA A10", "NVIDIA A100-80GB", "NVIDIA H100"), 0.1848)


def test_only_aws_says_how_often_spot_is_reclaimed() -> None:
    assert {offer.provider for offer in OFFERS if offer.interruptions is not None} == {"aws"}


@pytest.mark.parametrize(
    "family",
    ["c7i.", "c7g.", "c7a.", "c6i.", "m7i.", "m7g.", "c8g.", "n2-standard-", "n2d-standard-", "c4-standard-"],
)
def test_in_a_cpu_family_price_and_memory_go_with_the_cores(family: str) -> None:
    """A slipped digit or a swapped row shows here."""
    sizes = sorted((o for o in OFFERS if o.machine_type.startswith(family)), key=lambda o: o.vcpus)
    assert len(sizes) >= 4
    for smaller, larger in pairwise(sizes):
        factor = larger.vcpus / smaller.vcpus
        assert larger.on_demand.usd_per_h == pytest.approx(factor * smaller.on_demand.usd_per_h, rel=1e-4)
        assert larger.memory_bytes == factor * smaller.memory_bytes


@pytest.mark.parametrize(
    ("key", "vcpus", "memory", "accelerator", "on_demand", "spot"),
    [
        (("aws", "c7i.xlarge", "us-east-1"), 4, "8GiB", None, 0.1785, 0.06961),
        (("aws", "g4dn.xlarge", "us-east-1"), 4, "16GiB", ("NVIDIA T4", 1, "16GiB"), 0.526, 0.18936),
        (("aws", "p5.4xlarge", "us-east-1"), 16, "256GiB", ("NVIDIA H100", 1, "80GiB"), 6.88, None),
        (("aws", "inf2.48xlarge", "us-east-1"), 192, "768GiB", ("AWS Inferentia2", 12, "32GiB"), 12.98127, 1.81738),
        (("gcp", "n1-standard-4", "us-central1"), 4, "15GiB", None, 0.189999, 0.06701),
        (("gcp", "a2-ultragpu-1g", "us-central1"), 12, "170GiB", ("NVIDIA A100-80GB", 1, "80GiB"), 5.068798, 2.759546),
        (("gcp", "ct5lp-hightpu-1t", "us-west4"), 24, "48GiB", ("Google TPU v5e", 1, "16GiB"), 1.2, 0.51),
        (("gcp", "a2-highgpu-1g", "europe-west4"), 12, "85GiB", ("NVIDIA A100-40GB", 1, "40GiB"), 3.747972, None),
        (("azure", "Standard_D4s_v5", "eastus"), 4, "16GiB", None, 0.192, 0.040531),
        (("azure", "Standard_NV6ads_A10_v5", "eastus"), 6, "55GiB", ("NVIDIA A10", 0.1667, "4GiB"), 0.454, 0.083899),
        (("azure", "Standard_NC8as_T4_v3", "eastus"), 8, "56GiB", ("NVIDIA T4", 1, "16GiB"), 0.752, None),
    ],
)
def test_an_offer_of_each_sort(
    key: tuple[str, str, str],
    vcpus: int,
    memory: str,
    accelerator: tuple[str, float, str] | None,
    on_demand: float,
    spot: float | None,
) -> None:
    offer = CATALOGUE.offer(*key)
    assert (offer.vcpus, offer.memory_bytes) == (vcpus, parse_bytes(memory))
    assert accelerator_of(offer) == (None if accelerator is None else (*accelerator[:2], parse_bytes(accelerator[2])))
    assert offer.on_demand.usd_per_h == on_demand
    assert (None if offer.spot is None else offer.spot.usd_per_h) == spot


def test_part_of_a_gpu_has_that_part_of_its_memory() -> None:
    whole = CATALOGUE.offer("azure", "Standard_NV36ads_A10_v5", "eastus").accelerator
    assert whole is not None
    parts = [offer.accelerator for offer in OFFERS if offer.accelerator is not None and offer.accelerator.count < 1]
    assert [part.name for part in parts] == [whole.name] * 3
    for part in parts:
        assert part.memory == pytest.approx(part.count * whole.memory, rel=1e-3)


def test_a_list_price_goes_before_a_rate_and_a_rate_for_the_type_before_an_average() -> None:
    listed = CATALOGUE.offer("gcp", "a2-highgpu-1g", "us-central1").committed("reserved", "1y", "no_upfront")
    assert listed is not None
    assert (listed.usd_per_h, listed.origin) == (2.31421, "imported")
    rated = CATALOGUE.offer("gcp", "a2-highgpu-2g", "us-central1").committed("reserved", "1y", "no_upfront")
    assert rated is not None
    assert rated.usd_per_h == pytest.approx(7.34677 * 0.63)
    assert rated.usd_per_h == pytest.approx(2 * listed.usd_per_h, rel=1e-4)
    assert rated.origin == "projected"
    average = CATALOGUE.offer("gcp", "a2-ultragpu-1g", "us-central1").committed("reserved", "1y", "no_upfront")
    assert average is not None
    assert average.usd_per_h == pytest.approx(5.068798 * 0.7)
    assert average.origin == "assumed"


def test_flexible_commitments_hold_for_the_families_that_they_name() -> None:
    covered = {o.machine_type.split("-")[0] for o in OFFERS if o.committed("savings_plan", "3y", "no_upfront")}
    assert covered == {"c3", "c4", "e2", "n1", "n2", "n2d"}
    e2 = CATALOGUE.offer("gcp", "e2-standard-4", "us-central1").committed("savings_plan", "3y", "no_upfront")
    assert e2 is not None
    assert e2.usd_per_h == pytest.approx(0.134023 * 0.54)


@pytest.mark.parametrize("term", ["1y", "3y"])
def test_every_machine_can_be_reserved_without_upfront(term: str) -> None:
    for offer in OFFERS:
        assert f"reserved {term} no_upfront" in offer.quotes(), offer.key
