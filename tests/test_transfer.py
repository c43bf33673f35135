"""The transfer keeps the filters; features are computed once; planted shifts of the input are undone by adaptation."""

from functools import partial
from itertools import permutations
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from helpers import patch_table
from torch import nn

from camid_utils import evaluation, experiments, models, planning
from camid_utils.analyses import transfer
from camid_utils.models import INPUT_RANGES, CameraConvNet, to_input

ROWS = np.arange(48)  # all patches of the store of noise
FLIP = {"flip": True}
pytestmark = pytest.mark.usefixtures("on_cpu")


def inputs(count: int = transfer.BLOCK + 6, seed: int = 0) -> torch.Tensor:
    """Inputs [n, 3, 48, 48]; by default more than one block of them."""
    return torch.randn(count, 3, 48, 48, generator=torch.Generator().manual_seed(seed)) + 0.5


def make_net(seed: int = 0, width: float = 1 / 32) -> CameraConvNet:
    torch.manual_seed(seed)
    return models.initialise(CameraConvNet(3, width), inputs(8)).eval()


def unchanged(net: nn.Module):
    """A check, to be called later, that `net` still has the weights it has now."""
    before = {name: t.clone() for name, t in net.state_dict().items()}
    return lambda: all(torch.equal(t, before[name]) for name, t in net.state_dict().items())


@pytest.fixture
def noise(make_store):
    """A store of 48 patches of noise; its contrast tells the three classes apart."""
    table = patch_table(scenes=4, per_photo=2)
    contrast = pd.factorize(table["camera_model"])[0][:, None, None, None] * 60 + 10
    pixels = 128 + np.random.default_rng(0).uniform(-1, 1, (len(table), 48, 48, 3)) * contrast
    return make_store(pixels.astype(np.uint8), table)


@pytest.mark.parametrize("frozen", [True, False])
def test_the_transfer_keeps_the_filters_and_renews_the_last_layer(frozen):
    net, patches = make_net(), inputs(2)
    kept, copy = unchanged(net), transfer.transferred({4: net}, 39, SimpleNamespace(seed=4), frozen)
    assert copy(patches).shape == (2, 39) and torch.equal(copy.features(patches), net.features(patches))
    assert torch.equal(copy.classifier[0].weight, net.classifier[0].weight)
    bound = (6 / (64 + 39)) ** 0.5  # Glorot and Bengio 2010
    assert 0.95 * bound < copy.classifier[-1].weight.abs().max() <= bound and not copy.classifier[-1].bias.any()
    assert {p.requires_grad for p in copy.features.parameters()} == {not frozen}
    nn.init.zeros_(copy.features[0].weight)  # the copy's training must not reach the original
    assert kept() and all(p.requires_grad for p in (*net.parameters(), *copy.classifier.parameters()))


def test_features_are_those_of_each_patch_and_of_copies_augmented_one_by_one(noise, tmp_path):
    """With flips alone every row of a copy is that of its patch or of the mirrored one, and both occur."""
    net = make_net()
    found = transfer.features(net, noise, ROWS, "-1..1", tmp_path, FLIP, copies=3, batch_size=5)
    pixels = torch.from_numpy(noise.pixels).permute(0, 3, 1, 2)
    with torch.no_grad():
        plain, mirrored = (net.features(to_input(x, "-1..1")).numpy() for x in (pixels, pixels.flip(3)))
    np.testing.assert_allclose(found[0], plain, atol=1e-5)
    same, flipped = (np.isclose(found[1:], one, atol=1e-5).all(2) for one in (plain, mirrored))
    assert found.shape == (4, 48, 64) and (same ^ flipped).all() and len(np.unique(same, axis=0)) == 3
    some = transfer.features(net, noise, ROWS[::3], "-1..1", tmp_path, FLIP, copies=3, batch_size=5)
    np.testing.assert_allclose(some[:, ::3], found[:, ::3], atol=1e-5)
    assert not np.delete(some, ROWS[::3], axis=1).any()


@pytest.mark.parametrize("changed", ["net", "input_range", "augment", "copies", "seed", "store", "used"])
def test_features_are_computed_once_and_again_only_if_something_changed(noise, tmp_path, monkeypatch, changed):
    settings = dict(net=make_net(), store=noise, used=ROWS, input_range="0..1", augment=FLIP, copies=1)
    settings |= dict(folder=tmp_path / "f")
    first = np.array(transfer.features(**settings))
    nn.init.zeros_(settings["net"].classifier[0].weight)  # plays no part in the features
    with monkeypatch.context() as patch:
        patch.setattr(transfer, "batches", None)  # it would fail if they were computed again
        np.testing.assert_array_equal(transfer.features(**settings), first)
    other = dict(net=make_net(1), store=noise._replace(folder=tmp_path), input_range="0..255", copies=2, seed=1,
                 augment={"rotation": 10}, used=ROWS[1:])  # fmt: skip
    transfer.features(**settings | {changed: other[changed]})
    assert len(list((tmp_path / "f").glob("*.npy"))) == 2


def test_a_run_on_frozen_filters_equals_one_through_the_whole_network(noise, study, tmp_path):
    plans = planning.plans(noise.table, "photo", 0, seeds=2)
    nets = {seed: make_net(seed, 1 / 64) for seed in (0, 1)}
    settings, name = dict(input_range="-1..1", epochs=3, batch_size=8, optimizer="adamw"), "transfer-random-patch"
    quick = transfer.run_frozen(study, "random", {name: plans}, nets, noise, settings, None, 0)[name].predictions
    slow = study._replace(data=tmp_path / "slow")
    whole = experiments.run(slow, name, partial(transfer.transferred, nets), noise, plans, settings)
    logs = [evaluation.log_probabilities(table) for table in (quick, whole.predictions)]
    np.testing.assert_allclose(*logs, atol=1e-2)
    assert np.std(logs[0]) > 0.05 and len(list((study.data / "features").glob("*.npy"))) == 2
    for model in whole.models:  # frozen layers do not change
        assert torch.equal(model.net.features[0].weight, nets[model.info["seed"]].features[0].weight)


def agree(net, source, adapted, target, tolerance: float) -> bool:
    """Whether all channels have the same mean and variance in both networks."""
    wanted, got = transfer.channel_statistics(net, source), transfer.channel_statistics(adapted, target)
    return np.allclose(got[["mean", "variance"]], wanted[["mean", "variance"]], rtol=1e-3, atol=tolerance)


def test_the_shift_of_activations_and_the_filters_adapted_to_it():
    """The first filters are the mean of the pixels; the target is brighter by 40 and varies twice as much."""
    net = make_net()
    nn.init.constant_(net.features[0].weight, 1 / (3 * 49))
    grey = torch.randint(-20, 21, (30, 1, 1, 1), generator=torch.Generator().manual_seed(0)).float()
    known, new = (pixels.expand(30, 3, 48, 48) for pixels in (100 + grey, 140 + 2 * grey))
    target = {"as they are": (net, new), "adapted": (transfer.adabn(net, known, new / 255), new / 255)}
    shifts = {name: transfer.activation_shift((net, known), own) for name, own in target.items()}
    table = transfer.shift_table(shifts)
    planted = float((40 + grey).mean().abs() / grey.std(correction=0))
    assert table.loc["as they are", "conv1"].tolist() == pytest.approx([planted, 2], rel=1e-3)
    assert table.loc["adapted", "conv1"].tolist() == pytest.approx([0, 1], abs=1e-3)


@torch.no_grad()
def test_adabn_gives_the_target_the_statistics_of_the_source():
    net, source = make_net(), inputs()
    kept, affine, other = unchanged(net), source / 50 + 3, inputs(seed=1).cumsum(3) / 4
    adapted = transfer.adabn(net, source, affine)
    assert agree(net, source, adapted, affine, 1e-4) and not agree(net, source, net, affine, 0.1)
    torch.testing.assert_close(adapted(affine), net(source), rtol=1e-3, atol=1e-3)  # an affine change is undone
    assert agree(net, source, transfer.adabn(net, source, other), other, 1e-3) and kept()
    flat = torch.full_like(source, 2.0)  # constant channels are only shifted
    adapted = transfer.adabn(net, source, flat)
    assert torch.equal(adapted.features[0].weight, net.features[0].weight)
    means = [transfer.channel_statistics(*pair)["mean"][:4] for pair in ((net, source), (adapted, flat))]
    np.testing.assert_allclose(*means, atol=1e-4)


@pytest.mark.parametrize("trained, fed", list(permutations(INPUT_RANGES, 2)))
@torch.no_grad()
def test_a_folded_input_range_gives_the_same_logits_for_the_same_pixels(trained, fed):
    pixels = torch.randint(0, 256, (8, 3, 48, 48), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    net = models.initialise(make_net(), to_input(pixels, trained)).eval()
    net.features[0].weight += 0.1 * net.features[0].weight.std()  # so that the mean of the input matters, too
    kept, logits = unchanged(net), net(to_input(pixels, trained))
    folded = transfer.fold_input_range(net, trained, fed)
    torch.testing.assert_close(folded(to_input(pixels, fed)), logits, rtol=1e-4, atol=1e-4)
    assert kept() and (net(to_input(pixels, fed)) - logits).abs().max() > 1e-2
