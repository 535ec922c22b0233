"""The What-if page without a browser: fleets, variants and versions are shown, and no shipped lesson breaks it."""

from __future__ import annotations

from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

ROOT = Path(__file__).parents[2]


def opened(name: str, monkeypatch: pytest.MonkeyPatch) -> AppTest:
    """The app with a shipped scenario chosen."""
    monkeypatch.chdir(ROOT)
    app = AppTest.from_file(str(ROOT / "app.py"), default_timeout=120).run()
    box = next(box for box in app.selectbox if box.label == "scenario")
    return box.select_index(box.options.index(f"scenarios/{name}.yaml")).run()


def test_versions_and_a_rollback_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    app = opened("canary-slow", monkeypatch)
    told = [caption.value for caption in app.caption]
    assert not app.exception and not app.error
    assert any(line.startswith("what happened: rollbacks 1") for line in told)
    assert any(line.startswith("digits.v2: ") for line in told)
    assert any("min: rolled back: " in line for line in told)


def test_another_variant_is_another_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    app = opened("canary-slow", monkeypatch)
    variant = next(box for box in app.selectbox if box.label == "variant")
    app = variant.select("rolling").run()
    assert not app.exception and not app.error
    assert any(caption.value.startswith("what happened: rollouts 1") for caption in app.caption)
