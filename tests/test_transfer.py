"""The transfer keeps the filters and renews the last layer; features are the frozen network's, computed once."""

from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from camid_utils import models, training, transfer
from camid_utils.models import CameraConvNet


class PatchStore(NamedTuple):
    pixels: np.ndarray
    table: pd.DataFrame
    folder: Path


@pytest.fixture(autouse=True)
def full_precision(monkeypatch):
    """So that features can be compared closely on processors with bfloat16 too."""
    monkeypatch.setattr(transfer, "make_fabric", partial(training.make_fabric, precision="32-true"))


@pytest.fixture
def store() -> PatchStore:
    pixels = np.random.default_rng(0).integers(0, 256, (10, 48, 48, 3), dtype=np.uint8)
    return PatchStore(pixels, pd.DataFrame({"photo": list("abcdefghij")}), Path("random-48-0123"))


def small_net(seed: int = 0) -> CameraConvNet:
    torch.manual_seed(seed)
    return CameraConvNet(3, width=1 / 64)


def by_hand(net: CameraConvNet, pixels: np.ndarray, input_range: str) -> np.ndarray:
    """[N, d]: features of patches, without any file or loop."""
    with torch.no_grad():
        inputs = models.to_input(torch.from_numpy(pixels.copy()).permute(0, 3, 1, 2), input_range)
        return net.features(inputs).numpy()


# the network


def test_the_transfer_keeps_the_filters_and_renews_the_last_layer():
    torch.manual_seed(0)
    net = CameraConvNet(27, width=1 / 32)
    before = {name: t.clone() for name, t in net.state_dict().items()}
    copy = transfer.transferred(net, 39)
    patches = torch.rand(2, 3, 48, 48)
    assert copy(patches).shape == (2, 39) and copy.settings == net.settings | {"num_classes": 39}
    assert torch.equal(copy.features(patches), net.features(patches))
    assert torch.equal(copy.classifier[0].weight, net.classifier[0].weight)
    last = copy.classifier[-1]
    bound = (6 / (64 + 39)) ** 0.5  # Glorot and Bengio 2010
    assert 0.95 * bound < last.weight.abs().max() <= bound and not last.bias.any()

    with torch.no_grad():  # the copy's training must not reach the original
        for p in copy.parameters():
            p.add_(1)
    assert all(torch.equal(t, before[name]) for name, t in net.state_dict().items())
    assert all(p.requires_grad for p in net.parameters())


@pytest.mark.parametrize("frozen", [True, False])
def test_the_filters_are_frozen_on_request(frozen):
    copy = transfer.transferred(small_net(), 5, frozen)
    assert {p.requires_grad for p in copy.features.parameters()} == {not frozen}
    assert all(p.requires_grad for p in copy.classifier.parameters())


# the features


def test_the_first_features_are_those_of_the_patches_as_they_are(store, tmp_path):
    net = small_net()
    found = transfer.features(net, store, "-1..1", tmp_path, training.augmentation(), copies=2, batch_size=4)
    assert found.shape == (3, 10, 32) and found.dtype == np.float32
    expected = by_hand(net, store.pixels, "-1..1")
    assert expected.std() > 0.01
    np.testing.assert_allclose(found[0], expected, atol=1e-5)
    assert not np.allclose(by_hand(net, store.pixels, "0..255"), expected, atol=1e-2)


def test_the_copies_are_changed_by_a_draw_a_patch(store, tmp_path):
    """With flips alone every row of a copy is of its patch or of the mirrored one, and both happen."""
    net = small_net()
    found = transfer.features(net, store, "-1..1", tmp_path, training.augmentation(flip=True), copies=3)
    mirrored = by_hand(net, store.pixels[:, :, ::-1], "-1..1")
    same, flipped = (np.isclose(found[1:], one, atol=1e-4).all(2) for one in (found[0], mirrored))
    assert (same ^ flipped).all() and same.any() and flipped.any()
    assert len({tuple(row) for row in same.tolist()}) > 1  # one copy is not like another
    assert transfer.features(net, store, "-1..1", tmp_path, None, copies=3).shape == (1, 10, 32)


def kept(folder: Path) -> list[Path]:
    """All that lies in a folder of features, but for the locks."""
    return [path for path in folder.iterdir() if path.suffix != ".lock"]


def test_features_are_computed_once(store, tmp_path, monkeypatch):
    settings = dict(augment=training.augmentation(flip=True), copies=1, seed=4)
    first = np.array(transfer.features(small_net(), store, "0..1", tmp_path, **settings))
    (file,) = kept(tmp_path)
    elsewhere = transfer.features(small_net(), store, "0..1", tmp_path / "other", **settings)
    np.testing.assert_array_equal(elsewhere, first)

    def refuse(*args):
        raise AssertionError("computed again")

    monkeypatch.setattr(transfer, "batches", refuse)
    np.testing.assert_array_equal(transfer.features(small_net(), store, "0..1", tmp_path, **settings), first)
    other_head = small_net()
    nn.init.zeros_(other_head.classifier[0].weight)  # plays no part in the features
    np.testing.assert_array_equal(transfer.features(other_head, store, "0..1", tmp_path, **settings), first)
    assert file.is_file()


@pytest.mark.parametrize(
    "change",
    [
        {"net": small_net(1)},
        {"input_range": "0..255"},
        {"augment": training.augmentation(flip=True, rotation=10)},
        {"copies": 2},
        {"seed": 1},
        {"folder_name": "random-48-9999"},
    ],
)
def test_whatever_decides_the_features_gives_another_file(store, tmp_path, change):
    settings = {"net": small_net(), "input_range": "0..1", "augment": training.augmentation(flip=True), "copies": 1,
                "seed": 0, "folder_name": store.folder.name}  # fmt: skip
    for wanted in (settings, settings | change):
        other = store._replace(folder=Path(wanted["folder_name"]))
        transfer.features(folder=tmp_path, store=other, **{k: v for k, v in wanted.items() if k != "folder_name"})
    assert len(kept(tmp_path)) == 2


def test_a_file_of_features_is_whole_or_not_there(store, tmp_path, monkeypatch):
    ordinary = transfer.batches

    def cut_short(*args):
        yield next(ordinary(*args))
        raise KeyboardInterrupt

    monkeypatch.setattr(transfer, "batches", cut_short)
    with pytest.raises(KeyboardInterrupt):
        transfer.features(small_net(), store, "0..1", tmp_path, batch_size=4)
    assert kept(tmp_path) == []


def test_the_network_can_be_trained_after_its_features_were_taken(store, tmp_path):
    net = small_net()
    before = {name: t.clone() for name, t in net.state_dict().items()}
    transfer.features(net, store, "0..1", tmp_path)
    assert net.training and net.features.training
    assert all(torch.equal(t, before[name]) for name, t in net.state_dict().items())
    net(torch.rand(2, 3, 48, 48)).sum().backward()
    assert all(p.grad is not None for p in net.parameters())
