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
from pathlib import Path

import pytest

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


@pytest.fixture
def page_url(tmp_path: Path) -> Iterator[str]:
    """The app on a free port, answering, in a folder with one scenario that is stable."""
    (tmp_path / "scenarios").mkdir()
    shutil.copytree(ROOT / "scenarios/profiles", tmp_path / "scenarios/profiles")
    shutil.copy(ROOT / "scenarios/capacity-half.yaml", tmp_path / "scenarios")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [
        sys.executable,
        "-m",
        "streamlit",
        "run",
        str(ROOT / "app.py"),
        "--server.headless=true",
        f"--server.port={port}",
    ]
    command += ["--server.address=127.0.0.1", "--browser.gatherUsageStats=false", "--server.fileWatcherType=none"]
    process = subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
    )
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if b"http://127.0.0.1" in line:
                break
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def test_what_if_answers_a_moved_slider(page_url: str) -> None:
    from playwright.sync_api import expect, sync_playwright

    with urllib.request.urlopen(page_url, timeout=30) as answer:
        assert answer.status == 200
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page(viewport={"width": 1400, "height": 1200})
        page.goto(page_url)
        verdict = page.get_by_text("SLO", exact=False).first
        expect(verdict).to_be_visible(timeout=60_000)
        expect(page.get_by_text("latency against load")).to_be_visible(timeout=60_000)
        values = page.get_by_test_id("stMetricValue")
        # The browser may draw a card before its number.
        expect(values.first).to_contain_text("ms", timeout=60_000)
        before = values.all_inner_texts()
        slider = page.get_by_role("slider", name="rate, requests/s")
        slider.focus()
        for _ in range(5):
            slider.press("ArrowRight")
        page.wait_for_function(
            "before => [...document.querySelectorAll('[data-testid=stMetricValue]')]"
            ".map(e => e.innerText).join() !== before.join()",
            arg=before,
            timeout=60_000,
        )
        assert page.get_by_test_id("stException").count() == 0
        if folder := os.environ.get("FOREBAY_SCREENSHOTS"):
            page.wait_for_timeout(4_000)
            page.screenshot(path=str(Path(folder) / "what-if.png"), full_page=True)
        browser.close()
