"""The tour's model: it really classifies, and its ONNX form computes the same as its definition."""

from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
from sklearn.datasets import load_digits

from forebay import digits


@pytest.fixture(scope="module")
def trained() -> digits.Trained:
    return digits.train()


def test_reads_unseen_digits(trained: digits.Trained) -> None:
    assert trained.accuracy > 0.97


def test_onnx_computes_the_same_scores_at_any_batch(trained: digits.Trained, tmp_path: Path) -> None:
    digits.export_onnx(trained, tmp_path / "digits.onnx")
    session = ort.InferenceSession(str(tmp_path / "digits.onnx"), providers=["CPUExecutionProvider"])
    images = (load_digits().data[:24] / 16).astype(np.float32)
    expected = digits.features(images, trained.reservoir) @ trained.weights + trained.intercept
    for rows in (1, 5, 24):
        (scores,) = session.run(None, {"pixels": images[:rows]})
        np.testing.assert_allclose(scores, expected[:rows], atol=1e-4)


def test_same_seed_gives_the_same_file(trained: digits.Trained, tmp_path: Path) -> None:
    digits.export_onnx(trained, tmp_path / "a.onnx")
    digits.export_onnx(digits.train(), tmp_path / "b.onnx")
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()


def test_the_orders_differ_and_cover_every_pixel() -> None:
    orders = digits.scan_orders()
    assert len({order.tobytes() for order in orders}) == 32
    assert all(sorted(order) == list(range(64)) for order in orders)
