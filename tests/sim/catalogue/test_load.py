"""A price file of the user's own: laid over the shipped one, and refused with every fault at once."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from pathlib import Path

import pytest

from serve.errors import SpecError
from serve.files import load, save
from sim.catalogue.load import SHIPPED, load_catalogue
from sim.catalogue.price_file import PriceFile

Written = Callable[[str], Path]

ENTRY = "c7i.large: {vcpus: 2, memory: 4GiB, on_demand: {price: 0.07 USD/h, source: quote-12}}"
OWN = f"""
sources:
  quote-12: {{document: Quote 12 of our account team, date: 2026-10-01, licence: private}}
machines:
  aws:
    us-east-1:
      {ENTRY}
  here:
    rack-1:
      l4-box:
        vcpus: 16
        memory: 64GiB
        accelerator: {{name: NVIDIA L4, count: 2, memory: 24GiB}}
        on_demand: {{price: 0.50 USD/h, source: quote-12, origin: assumed}}
        reserved: {{3y: {{all_upfront: {{price: 0.45 USD/h, source: quote-12}}}}}}
commitments:
  aws-1y-no-upfront: {{provider: aws, kind: reserved, term: 1y, payment: no_upfront, discount: 20%, source: quote-12}}
  our-plan:
    {{provider: aws, kind: savings_plan, types: [c7i], term: 1y, payment: no_upfront, discount: 30%, source: quote-12}}
"""

BROKEN = """
sources:
  quote: {document: Quote 4711, date: 31.01.2026, licence: private}
machines:
  here:
    rack-1:
      h100-box: {vcpus: 0, memory: 512, on_demand: {price: 12, source: quote}}
      l4-box: {vcpus: 16, memory: 64GiB, on_demand: {price: 0.50 USD/h, source: qoute}, spott: 1}
      dear-box:
        vcpus: 16
        memory: 64GiB
        on_demand: {price: 0.50 USD/h, source: quote}
        spot: {price: 0.60 USD/h, source: quote}
        reserved:
          1y: {no_upfront: {price: 0.50 USD/h, source: quote}, all_upfront: {price: 0.51 USD/h, source: quote}}
commitments:
  ours: {provider: here, kind: saving_plan, term: 2y, payment: no_upfront, discount: 120%, source: Quote}
"""


@pytest.fixture
def written(tmp_path: Path) -> Written:
    """Writes a price file and gives its path."""

    def write(text: str) -> Path:
        path = tmp_path / "prices.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def faults_of(path: Path) -> list[str]:
    """The lines that reading the file reports, without its name."""
    with pytest.raises(SpecError) as caught:
        load_catalogue(path)
    return [str(fault).removeprefix(f"{path}: ") for fault in caught.value.faults]


def test_an_entry_replaces_the_shipped_one_as_a_whole(written: Written) -> None:
    offer = load_catalogue(written(OWN)).offer("aws", "c7i.large", "us-east-1")
    assert offer.on_demand.usd_per_h == 0.07
    assert offer.on_demand.source.document == "Quote 12 of our account team"
    assert offer.on_demand.source.date == date(2026, 10, 1)
    assert offer.spot is None


def test_a_machine_of_ones_own_is_added_and_all_else_stays(written: Written) -> None:
    shipped, laid = load_catalogue(), load_catalogue(written(OWN))
    assert set(laid.offers) - set(shipped.offers) == {("here", "l4-box", "rack-1")}
    box = laid.offer("here", "l4-box", "rack-1")
    assert box.accelerator is not None
    assert (box.vcpus, box.accelerator.count, box.on_demand.origin) == (16, 2, "assumed")
    assert [(bought, quote.usd_per_h) for bought, quote in box.quotes().items()] == [
        ("on_demand", 0.5),
        ("reserved 3y all_upfront", 0.45),
    ]
    changed = {key for key, offer in shipped.offers.items() if laid.offers[key].on_demand != offer.on_demand}
    assert changed == {("aws", "c7i.large", "us-east-1")}
    assert all(laid.offers[key] == offer for key, offer in shipped.offers.items() if offer.provider != "aws")


def test_commitments_hold_for_shipped_machines_too(written: Written) -> None:
    laid = load_catalogue(written(OWN))
    replaced = laid.offer("aws", "m7i.large", "us-east-1").committed("reserved", "1y", "no_upfront")
    assert replaced is not None
    assert replaced.usd_per_h == pytest.approx(0.1008 * 0.8)
    assert replaced.source.licence == "private"
    added = laid.offer("aws", "c7i.xlarge", "us-east-1").committed("savings_plan", "1y", "no_upfront")
    assert added is not None
    assert added.usd_per_h == pytest.approx(0.1785 * 0.7)
    assert laid.offer("aws", "c6i.large", "us-east-1").committed("savings_plan", "1y", "no_upfront") is None


def test_of_rates_meant_equally_closely_the_users_holds(written: Written) -> None:
    laid = load_catalogue(written(OWN.replace("aws-1y-no-upfront", "our-terms")))
    quote = laid.offer("aws", "m7i.large", "us-east-1").committed("reserved", "1y", "no_upfront")
    assert quote is not None
    assert quote.usd_per_h == pytest.approx(0.1008 * 0.8)


def test_the_users_rate_holds_under_whatever_name_it_replaces(written: Written) -> None:
    """The shipped file has a 3y rate of its own after the one whose name is taken."""
    start = OWN.index("aws-1y-no-upfront")
    laid = load_catalogue(written(OWN[:start] + OWN[start:].replace("term: 1y", "term: 3y", 1)))
    quote = laid.offer("aws", "m7i.large", "us-east-1").committed("reserved", "3y", "no_upfront")
    assert quote is not None
    assert quote.usd_per_h == pytest.approx(0.1008 * 0.8)


def test_reading_a_users_file_leaves_the_shipped_catalogue_as_it_was(written: Written) -> None:
    before = load_catalogue()
    load_catalogue(written(OWN))
    assert load_catalogue() == before


@pytest.mark.parametrize(
    ("key", "told"),
    [
        (("awss", "c7i.large", "us-east-1"), "no price of provider 'awss' is known; did you mean 'aws'?"),
        (("ibm", "c7i.large", "us-east-1"), "no price of provider 'ibm' is known; known here: aws, gcp, azure"),
        (
            ("aws", "c7i.larg", "us-east-1"),
            "no price of aws's machine type 'c7i.larg' is known; did you mean 'c7i.large'?",
        ),
        (
            ("azure", "standard_f4s_v2", "eastus"),
            "no price of azure's machine type 'standard_f4s_v2' is known; did you mean 'Standard_F4s_v2'?",
        ),
        (
            ("aws", "zzz", "us-east-1"),
            "no price of aws's machine type 'zzz' is known; 91 are known, such as c7i.large, c7i.xlarge, c7i.2xlarge",
        ),
        (
            ("aws", "c7i.large", "us-east-2"),
            "no price of c7i.large in region 'us-east-2' is known; did you mean 'us-east-1'?",
        ),
        (
            ("gcp", "a2-highgpu-1g", "moon"),
            "no price of a2-highgpu-1g in region 'moon' is known; known here: us-central1, europe-west4",
        ),
    ],
)
def test_what_is_not_there_is_told_with_what_is_near(key: tuple[str, str, str], told: str) -> None:
    with pytest.raises(LookupError) as caught:
        load_catalogue().offer(*key)
    assert caught.value.args == (told,)


def test_every_fault_of_a_file_is_told_at_once_with_its_field_and_what_would_do(written: Written) -> None:
    box = "machines.here.rack-1"
    expected = [
        "sources.quote.date: must be a day such as 2026-01-31, got '31.01.2026'",
        f"{box}.h100-box.vcpus: must be >= 1, got 0",
        f"{box}.h100-box.memory: must be a size with its unit, such as 600MiB or 2GiB, got 512",
        f"{box}.h100-box.on_demand.price: must be a price per hour, such as 0.35 USD/h, got 12",
        f"{box}.l4-box.spott: unknown key; did you mean 'spot'?",
        f"{box}.dear-box: spot, reserved.1y.all_upfront: must be <= on_demand (0.5 USD/h), else say why",
        "commitments.ours.kind: must be 'reserved' or 'savings_plan', got 'saving_plan'; did you mean 'savings_plan'?",
        "commitments.ours.term: must be '1y' or '3y', got '2y'",
        "commitments.ours.discount: must be < 1, got 1.2",
        "commitments.ours.source: must be a name of lower-case letters, digits, - and _ that begins with a letter, got",
        f"{box}.l4-box.on_demand.source: is no source of this file, got 'qoute'; did you mean 'quote'?",
    ]
    lines = faults_of(written(BROKEN))
    assert [line[: len(start)] for line, start in zip(lines, expected, strict=True)] == expected


@pytest.mark.parametrize("day", ["31.01.2026", "20260131", "2026-02-30", "2026-W05", "2026", "null"])
def test_a_day_is_written_in_one_way(day: str, written: Written) -> None:
    (line,) = faults_of(written(OWN.replace("2026-10-01", day)))
    assert line.startswith("sources.quote-12.date: must be a day such as 2026-01-31, got ")


def test_a_file_names_its_own_sources(written: Written) -> None:
    entry = ENTRY.replace("quote-12", "aws-on-demand")
    assert faults_of(written(OWN.replace(ENTRY, entry))) == [
        "machines.aws.us-east-1.c7i.large.on_demand.source: is no source of this file, got 'aws-on-demand'; "
        "known here: quote-12"
    ]


def test_a_file_without_sources_is_told_to_describe_them(written: Written) -> None:
    lines = faults_of(written(OWN[OWN.index("machines:") :]))
    assert len(lines) == OWN.count("source: quote-12")
    assert all(line.endswith("is no source of this file, got 'quote-12'; describe it under sources") for line in lines)


def test_an_entry_that_stands_twice_is_a_fault(written: Written) -> None:
    (line,) = faults_of(written(OWN.replace(ENTRY, f"{ENTRY}\n      {ENTRY}")))
    assert line == "machines.aws.us-east-1.c7i.large: line 8: appears twice in one mapping; keep one"


def test_a_price_above_on_demand_is_taken_with_its_reason(written: Written) -> None:
    dear = f"{ENTRY[:-1]}, spot: {{price: 0.08 USD/h, source: quote-12}}}}"
    (line,) = faults_of(written(OWN.replace(ENTRY, dear)))
    assert line.startswith("machines.aws.us-east-1.c7i.large: spot: must be <= on_demand (0.07 USD/h)")
    reasoned = f"{dear[:-1]}, exception: our quote is below the market's}}"
    spot = load_catalogue(written(OWN.replace(ENTRY, reasoned))).offer("aws", "c7i.large", "us-east-1").spot
    assert spot is not None
    assert spot.usd_per_h == 0.08


def test_a_file_that_is_not_there_is_a_fault(tmp_path: Path) -> None:
    assert faults_of(tmp_path / "none.yaml") == ["there is no such file"]


@pytest.mark.parametrize("name", ["prices.yaml", "prices.json"])
def test_the_shipped_data_survives_a_round_trip(name: str, tmp_path: Path) -> None:
    shipped = load(SHIPPED, PriceFile)
    save(tmp_path / name, shipped)
    assert load(tmp_path / name, PriceFile) == shipped
    assert load_catalogue(tmp_path / name) == load_catalogue()
