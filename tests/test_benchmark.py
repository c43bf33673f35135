"""The benchmark: counted operations are those of the layers, and every row says what its columns say."""

from functools import partial

import numpy as np
import pytest
import torch

from camid_utils import benchmark, models


def test_operations_are_counted_layer_by_layer():
    """A multiplication and an addition for each weight and output pixel."""
    layers = [3 * 7**2 * 16 * 42**2, 16 * 7**2 * 64 * 14**2, 64 * 6**2 * 256, 256 * 256, 256 * 8]
    make_net = partial(models.CameraConvNet, 8, 0.125)
    assert benchmark.operations(make_net, 48, train=False) == 2 * sum(layers)
    assert benchmark.operations(make_net, 48, train=True) == 6 * sum(layers)


def test_the_plain_recipe_trains_and_predicts():
    rng, labels = np.random.default_rng(0), np.arange(64) % 2
    pixels = (rng.integers(0, 128, (64, 8, 8, 3)) + 100 * labels[:, None, None, None]).astype(np.uint8)
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 2))
    epoch = benchmark.plain_training(net, pixels, labels, 16, torch.device("cpu"))
    for _ in range(200):
        epoch()
    logits = benchmark.plain_prediction(net, pixels, 10, torch.device("cpu"))
    assert (logits.argmax(1).numpy() == labels).mean() > 0.9


@pytest.mark.usefixtures("on_cpu")
def test_each_row_compares_ours_with_the_plain_recipe_and_the_limit(monkeypatch, capsys):
    tiny = {"CameraConvNet": (lambda: models.CameraConvNet(8, 1 / 64), 48, 4, 3)}
    monkeypatch.setattr(benchmark, "best_device", lambda: "cpu")
    monkeypatch.setattr(benchmark, "WORK", {"cpu": tiny})
    monkeypatch.setattr(benchmark, "SIZES", {"cpu": 32})
    monkeypatch.setattr(benchmark, "PHOTO", (192, 256))
    assert benchmark.main([]) == 0
    head, *rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert head == ["work", "ours", "plain", "unit", "ratio", "limit", "share"]
    assert [row[0] for row in rows] == ["training", "prediction", "patches", "the"]
    for ours, plain, _, ratio, limit, share in (row[-6:] for row in rows):
        assert float(ratio) == pytest.approx(float(ours) / float(plain), rel=0.02) and float(ours) > 0
        assert float(share) == pytest.approx(float(ours) / float(limit), rel=0.02)
