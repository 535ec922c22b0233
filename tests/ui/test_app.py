"""The browser door in a real browser: a slider moves, the verdict follows; the Live panel leaves nothing behind."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from serve import files
from serve.deployment import Deployment
from tests.profiles import Synthetic, write_profile

if TYPE_CHECKING:
    from playwright.sync_api import Page

CHROMIUM = shutil.which("chromium")
ROOT = Path(__file__).parents[2]
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Debian's chromium (apt-get install chromium)"),
]


@dataclass(frozen=True, slots=True)
class App:
    """The running app."""

    url: str
    process: psutil.Process

    def started(self) -> list[psutil.Process]:
        """The processes below it: engine, replicas, load generator."""
        return self.process.children(recursive=True)


@pytest.fixture
def app(tmp_path: Path) -> Iterator[App]:
    """The app on a free port, answering, in a folder with one stable scenario and one planned deployment."""
    (tmp_path / "scenarios").mkdir()
    shutil.copytree(ROOT / "scenarios/profiles", tmp_path / "scenarios/profiles")
    shutil.copy(ROOT / "scenarios/capacity-half.yaml", tmp_path / "scenarios")
    _planned(tmp_path / "out")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "streamlit", "run", str(ROOT / "app.py")]
    command += ["--server.headless=true", f"--server.port={port}", "--server.fileWatcherType=none"]
    process = subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
    )
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if b"http://127.0.0.1" in line:
                break
        yield App(f"http://127.0.0.1:{port}", psutil.Process(process.pid))
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def _planned(folder: Path) -> None:
    """One emulated replica, planned for a second of 50 requests/s."""
    folder.mkdir()
    write_profile(folder, Synthetic(noise_cv=0.1))
    workload = {"duration": "1s", "classes": {"all": {"arrivals": {"poisson": "50/s"}}}}
    deployment = {
        "models": {"toy": {"profile": "toy.yaml", "backend": "emulated"}},
        "pools": {"here": {"cores": 2, "price": "1 USD/h"}},
        "planned_for": {"workload": workload, "slo": {"p99": "10s"}, "seed": 1},
    }
    files.save(folder / "toy-deployment.yaml", Deployment.model_validate(deployment))


@pytest.fixture
def page(app: App) -> Iterator[Page]:
    """The app in a browser."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page(viewport={"width": 1400, "height": 1300})
        page.set_default_timeout(60_000)
        page.goto(app.url)
        yield page
        browser.close()


def _picture(page: Page, name: str) -> None:
    """A screenshot for people, where one is asked for."""
    if folder := os.environ.get("FOREBAY_SCREENSHOTS"):
        page.wait_for_timeout(4_000)
        page.screenshot(path=str(Path(folder) / f"{name}.png"), full_page=True)


def test_what_if_answers_a_moved_slider(app: App, page: Page) -> None:
    with urllib.request.urlopen(app.url, timeout=30) as answer:
        assert answer.status == 200
    page.get_by_text("SLO", exact=False).first.wait_for()
    page.get_by_text("latency against load").wait_for()
    # The browser may draw a card before its number.
    values = page.get_by_test_id("stMetricValue")
    values.filter(has_text="ms").first.wait_for()
    before = values.all_inner_texts()
    slider = page.get_by_role("slider", name="rate, requests/s")
    slider.focus()
    for _ in range(5):
        slider.press("ArrowRight")
    page.wait_for_function(
        "before => [...document.querySelectorAll('[data-testid=stMetricValue]')]"
        ".map(e => e.innerText).join() !== before.join()",
        arg=before,
    )
    batch = page.get_by_role("slider", name="max batch, rows")
    batch.focus()
    batch.press("End")  # as large as it goes: what the profile measured, and not beyond
    page.get_by_text("latency against load").wait_for()
    assert page.get_by_test_id("stException").count() == 0
    assert page.get_by_test_id("stAlertContentError").count() == 0
    _picture(page, "what-if")


def _launched(app: App, page: Page) -> list[psutil.Process]:
    """Launch the deployment and wait for a first report; returns the processes that then run."""
    page.get_by_role("tab", name="Live").click()
    page.get_by_role("button", name="Launch").click()
    page.get_by_text("predicted beside measured").wait_for()
    started = app.started()
    assert any("serve.engine" in process.cmdline() for process in started)
    return started


def test_live_shows_measured_beside_predicted_and_stop_leaves_no_process(app: App, page: Page) -> None:
    started = _launched(app, page)
    row = page.get_by_test_id("stTable").get_by_role("row").filter(has=page.get_by_text("p99", exact=True))
    row.wait_for()
    p99 = row.locator("th, td").all_inner_texts()
    assert [cell.strip().endswith(("ms", "us", "s")) for cell in p99[1:4]] == [True] * 3, p99
    _picture(page, "live")
    stop = page.get_by_role("button", name="Stop")
    stop.click()
    page.get_by_text("stopped, nothing left running").wait_for()
    assert app.started() == []
    assert [process.pid for process in started if process.is_running()] == []
    assert stop.is_disabled()
    assert page.get_by_test_id("stException").count() == 0


def test_closing_the_page_stops_what_it_launched(app: App, page: Page) -> None:
    started = _launched(app, page)
    page.close()
    gone, left = psutil.wait_procs(started, timeout=60)
    assert left == []
    assert len(gone) == len(started) > 1
    assert app.started() == []


def test_stopping_the_app_stops_what_it_launched(app: App, page: Page) -> None:
    started = _launched(app, page)
    app.process.terminate()
    assert psutil.wait_procs(started, timeout=60)[1] == []
