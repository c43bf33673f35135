"""The transfer keeps the filters; features are computed once; planted shifts of the input are undone by adaptation."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from camid_utils import augmentation, evaluation, experiments, models, planning
from camid_utils.analyses import transfer
from camid_utils.models import INPUT_RANGES, CameraConvNet, EfficientNetClassifier, to_input

RANGES_TO_FOLD = [(trained, fed) for trained in INPUT_RANGES for fed in INPUT_RANGES]


@pytest.fixture(autouse=True)
def _on_cpu(on_cpu):
    pass


def small_net(seed: int = 0, width: float = 1 / 64) -> CameraConvNet:
    torch.manual_seed(seed)
    return CameraConvNet(3, width)


def initialised_net() -> CameraConvNet:
    return models.initialise(small_net(width=1 / 32), torch.randn(8, 3, 48, 48)).eval()


def inputs(count: int = transfer.BLOCK + 6, seed: int = 0) -> torch.Tensor:
    """Inputs [n, 3, 48, 48]; by default more than one block of them."""
    return torch.randn(count, 3, 48, 48, generator=torch.Generator().manual_seed(seed)) + 0.5


def unchanged(net: nn.Module):
    """A check, to be called later, that `net` still has the weights it has now."""
    before = {name: t.clone() for name, t in net.state_dict().items()}
    return lambda: all(torch.equal(t, before[name]) for name, t in net.state_dict().items())


@pytest.fixture
def patch_store(make_store, patch_table):
    """48 noise patches; the contrast tells the three classes apart."""
    table = patch_table(scenes=4, per_photo=2)
    contrast = pd.factorize(table["camera_model"])[0][:, None, None, None] * 60 + 10
    noise = np.random.default_rng(0).uniform(-1, 1, (len(table), 48, 48, 3)) * contrast
    return make_store((128 + noise).clip(0, 255).astype(np.uint8), table)


# the network


@pytest.mark.parametrize("frozen", [True, False])
def test_the_transfer_keeps_the_filters_and_renews_the_last_layer(frozen):
    net = small_net(width=1 / 32)
    kept, copy = unchanged(net), transfer.transferred(net, 39, frozen)
    patches = inputs(2)
    assert copy(patches).shape == (2, 39) and copy.settings == net.settings | {"num_classes": 39}
    assert torch.equal(copy.features(patches), net.features(patches))
    assert torch.equal(copy.classifier[0].weight, net.classifier[0].weight)
    last = copy.classifier[-1]
    bound = (6 / (64 + 39)) ** 0.5  # Glorot and Bengio 2010
    assert 0.95 * bound < last.weight.abs().max() <= bound and not last.bias.any()
    assert {p.requires_grad for p in copy.features.parameters()} == {not frozen}
    assert all(p.requires_grad for p in copy.classifier.parameters())
    with torch.no_grad():  # the copy's training must not reach the original
        for p in copy.parameters():
            p.add_(1)
    assert kept() and all(p.requires_grad for p in net.parameters())


# features


def features_by_hand(net: CameraConvNet, pixels: np.ndarray, input_range: str) -> np.ndarray:
    with torch.no_grad():
        return net.features(to_input(torch.from_numpy(pixels.copy()).permute(0, 3, 1, 2), input_range)).numpy()


def test_the_first_features_are_those_of_the_original_patches(patch_store, tmp_path):
    net = small_net()
    kept = unchanged(net)
    flip = augmentation.augmentation(flip=True)
    found = transfer.features(net, patch_store, "-1..1", tmp_path, flip, copies=2, batch_size=5)
    assert found.shape == (3, 48, 32) and found.dtype == np.float32
    expected = features_by_hand(net, patch_store.pixels, "-1..1")
    assert expected.std() > 0.001
    np.testing.assert_allclose(found[0], expected, atol=1e-5)
    assert not np.allclose(features_by_hand(net, patch_store.pixels, "0..255"), expected, atol=1e-2)
    assert kept() and net.training  # it can be trained afterwards
    net(inputs(2)).sum().backward()
    assert all(p.grad is not None for p in net.parameters())


def test_each_patch_of_a_copy_is_augmented_on_its_own(patch_store, tmp_path):
    """With flips alone every row of a copy is that of its patch or of the mirrored one, and both occur."""
    net, flip = small_net(), augmentation.augmentation(flip=True)
    found = transfer.features(net, patch_store, "-1..1", tmp_path, flip, copies=3)
    mirrored = features_by_hand(net, patch_store.pixels[:, :, ::-1], "-1..1")
    same, flipped = (np.isclose(found[1:], one, atol=1e-6).all(2) for one in (found[0], mirrored))
    assert (same ^ flipped).all() and same.any() and flipped.any()
    assert len({tuple(row) for row in same.tolist()}) == 3  # the copies differ from each other
    assert transfer.features(net, patch_store, "-1..1", tmp_path, None, copies=3).shape == (1, 48, 32)


def files(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.suffix == ".npy"]


def refuse(*_):
    raise AssertionError("computed again")


def test_features_are_computed_once(patch_store, tmp_path, monkeypatch):
    settings = dict(augment=augmentation.augmentation(flip=True), copies=1, seed=4)
    first = np.array(transfer.features(small_net(), patch_store, "0..1", tmp_path / "a", **settings))
    again = transfer.features(small_net(), patch_store, "0..1", tmp_path / "b", **settings)
    np.testing.assert_array_equal(again, first)
    monkeypatch.setattr(transfer, "batches", refuse)
    other_head = small_net()
    nn.init.zeros_(other_head.classifier[0].weight)  # plays no part in the features
    for net in (small_net(), other_head):
        np.testing.assert_array_equal(transfer.features(net, patch_store, "0..1", tmp_path / "a", **settings), first)


@pytest.mark.parametrize(
    "change",
    [
        {"net": small_net(1)},
        {"input_range": "0..255"},
        {"augment": augmentation.augmentation(flip=True, rotation=10)},
        {"copies": 2},
        {"seed": 1},
        {"store": "random-48-9999"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_whatever_decides_the_features_gives_another_file(patch_store, tmp_path, change):
    settings = dict(net=small_net(), input_range="0..1", augment=augmentation.augmentation(flip=True), copies=1, seed=0)
    for wanted in (settings, settings | change):
        store = patch_store._replace(folder=Path(wanted.pop("store", "random-48-0123")))
        transfer.features(folder=tmp_path, store=store, **wanted)
    assert len(files(tmp_path)) == 2


def test_interrupted_features_leave_no_file(patch_store, tmp_path, monkeypatch):
    ordinary = transfer.batches

    def interrupted(*args):
        yield next(ordinary(*args))
        raise KeyboardInterrupt

    monkeypatch.setattr(transfer, "batches", interrupted)
    with pytest.raises(KeyboardInterrupt):
        transfer.features(small_net(), patch_store, "0..1", tmp_path, batch_size=4)
    assert not list(tmp_path.iterdir())


def test_a_run_on_frozen_filters_equals_one_through_the_whole_network(patch_store, study, tmp_path, monkeypatch):
    plans = planning.plans(patch_store.table, "photo", 0, seeds=2)
    nets = {seed: models.initialise(small_net(seed), inputs(8)) for seed in (0, 1)}
    settings = dict(input_range="-1..1", epochs=6, batch_size=8, optimizer="adamw", learning_rate=0.01)
    arguments = nets, patch_store, plans, settings, None, 0
    quick = transfer.run_frozen(study, "transfer-random-patch", *arguments)
    elsewhere = study._replace(data=tmp_path / "slow", results=tmp_path / "slow")
    slow = experiments.run(elsewhere, "transfer-random-patch", lambda n, p: transfer.transferred(nets[p.seed], n),
                           patch_store, plans, settings)  # fmt: skip
    logs = [evaluation.log_probabilities(run.predictions) for run in (quick, slow)]
    np.testing.assert_allclose(*logs, atol=1e-2)
    assert np.std(logs[0]) > 0.1 and len(files(study.data / "features")) == 2
    monkeypatch.setattr(transfer, "batches", refuse)
    again = transfer.run_frozen(study, "transfer-random-patch", *arguments)
    pd.testing.assert_frame_equal(again.predictions, quick.predictions, check_exact=True)


# statistics of activations


@torch.no_grad()
def test_statistics_are_those_of_each_layer_before_its_relu():
    net, patches = initialised_net(), inputs()
    table = transfer.channel_statistics(net, patches)
    assert list(table.columns) == ["layer", "channel", "mean", "variance"]
    assert table["layer"].value_counts(sort=False).to_dict() == {"conv1": 4, "conv2": 16, "conv3": 64}
    for name, depth in (("conv1", 1), ("conv2", 4), ("conv3", 8)):
        signal = net.features[:depth](patches).double()
        rows = table[table["layer"] == name].set_index("channel")
        for channel in (0, len(rows) - 1):
            expected = [signal[:, channel].mean().item(), signal[:, channel].var(correction=0).item()]
            assert rows.loc[channel, ["mean", "variance"]].tolist() == pytest.approx(expected, rel=1e-6, abs=1e-9)


def test_the_shift_of_activations_is_the_planted_one(make_store):
    """The first channel's filter is the mean of the pixels; the target's are brighter by 40 and vary twice as much."""
    net = initialised_net()
    with torch.no_grad():
        net.features[0].weight[:] = 1 / (3 * 49)
        net.features[0].bias[:] = 0
    grey = np.random.default_rng(0).integers(-20, 21, (30, 1, 1, 1)) + np.zeros((1, 48, 48, 3), int)
    source, target = (make_store(pixels.astype(np.uint8), pd.DataFrame(index=range(30))) for pixels in
                      (100 + grey, 140 + 2 * grey))  # fmt: skip
    shift = transfer.activation_shift((net, source, "0..255"), (net, target, np.arange(30), "0..255"))
    assert list(shift) == ["layer", "channel", "mean_source", "variance_source", "mean_target", "variance_target"]
    table = transfer.shift_table({"a": shift, "b": shift})
    assert list(table.index.names) == ["recipe", "layer"] and len(table) == 6
    moved, ratio = table.loc["a", "conv1"]
    assert moved == pytest.approx(abs(40 + grey.mean()) / grey[:, 0, 0, 0].std(), rel=1e-3)
    assert ratio == pytest.approx(2, rel=1e-3)


# adaptation of a network without batch normalisation


def agree(net, source, adapted, target, tolerance: float) -> bool:
    """Whether all channels have the same mean and variance in both networks."""
    wanted, got = transfer.channel_statistics(net, source), transfer.channel_statistics(adapted, target)
    columns = ["mean", "variance"]
    return np.allclose(got[columns], wanted[columns], rtol=1e-3, atol=tolerance)


@torch.no_grad()
def test_adabn_undoes_an_affine_change_of_the_input():
    net, source = initialised_net(), inputs()
    target, kept = source / 50 + 3, unchanged(net)
    adapted = transfer.adabn(net, source, target)
    assert agree(net, source, adapted, target, 1e-4) and not agree(net, source, net, target, 0.1)
    torch.testing.assert_close(adapted.features(target), net.features(source), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(adapted(target), net(source), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(transfer.adabn(net, source, source)(source), net(source), rtol=1e-4, atol=1e-4)
    assert kept()


@torch.no_grad()
def test_adabn_gives_other_content_the_statistics_of_the_source():
    net, source = initialised_net(), inputs()
    target = inputs(seed=1).cumsum(3) / 4  # not an affine change: only the moments can agree
    assert agree(net, source, transfer.adabn(net, source, target), target, 1e-3)


@torch.no_grad()
def test_channels_that_are_constant_on_the_target_are_only_shifted():
    net, source = initialised_net(), inputs()
    net.features[0].weight[1] = 0  # a dead filter, on either side
    flat = torch.full_like(source, 2.0)  # every filter is constant on flat patches
    adapted = transfer.adabn(net, source, flat)
    assert torch.equal(adapted.features[0].weight, net.features[0].weight)
    assert all(t.isfinite().all() for t in adapted.state_dict().values())
    wanted, got = transfer.channel_statistics(net, source), transfer.channel_statistics(adapted, flat)
    assert got["mean"][:4].tolist() == pytest.approx(wanted["mean"][:4].tolist(), abs=1e-4)


@pytest.mark.parametrize("trained, fed", RANGES_TO_FOLD)
@torch.no_grad()
def test_a_folded_input_range_gives_the_same_logits_for_the_same_pixels(trained, fed):
    pixels = torch.randint(0, 256, (8, 3, 48, 48), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    net = models.initialise(small_net(width=1 / 32), to_input(pixels, trained)).eval()
    net.features[0].weight += 0.1 * net.features[0].weight.std()  # so that the mean of the input matters, too
    kept, logits = unchanged(net), net(to_input(pixels, trained))
    folded = transfer.fold_input_range(net, trained, fed)
    torch.testing.assert_close(folded(to_input(pixels, fed)), logits, rtol=1e-4, atol=1e-4)
    assert kept() and logits.std() > 0.01
    assert trained == fed or (net(to_input(pixels, fed)) - logits).abs().max() > 1e-2


def test_an_unknown_input_range_is_named():
    with pytest.raises(ValueError, match=r"unknown input range '0\.\.2': choose one of 0\.\.255, 0\.\.1"):
        transfer.fold_input_range(small_net(), "0..255", "0..2")


@torch.no_grad()
def test_the_four_variants_of_the_filters(patch_store, make_store):
    """As trained, folded into another range, adapted to the new patches in that range, and random ones."""
    model = models.Model(initialised_net(), list("abc"), 48, "0..255", {"seed": 3})
    kept, rows = unchanged(model.net), np.arange(0, 48, 2)
    familiar = make_store(patch_store.pixels // 2 + 20, patch_store.table)
    variants = transfer.filter_variants(model, familiar, patch_store, rows, "0..1", "-1..1")
    assert list(variants) == ["as trained", "trained on 0..1", "adapted", "random"] and kept()
    assert variants["as trained"] is model.net
    known, raw = (evaluation.sample(familiar, range(48), fed) for fed in ("0..1", "0..255"))
    torch.testing.assert_close(variants["trained on 0..1"](known), model.net(raw), rtol=1e-3, atol=1e-2)
    fed = evaluation.sample(patch_store, rows, "-1..1")
    assert agree(variants["trained on 0..1"], known, variants["adapted"], fed, 1e-2)
    torch.manual_seed(3)
    again = models.initialise(CameraConvNet(2, 1 / 32), evaluation.sample(patch_store, rows, "0..255"))
    assert torch.equal(again.features[0].weight, variants["random"].features[0].weight)


# adaptation of batch normalisation


def normalised_net() -> nn.Module:
    """Two classes, bright and dark, told apart after a batch normalisation fitted to inputs of mean 0."""
    net = nn.Sequential(nn.Conv2d(3, 1, 1), nn.BatchNorm2d(1, momentum=0.1), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                        nn.Dropout(0.9), nn.Linear(1, 2))  # fmt: skip
    with torch.no_grad():
        net[0].weight.fill_(1 / 3)
        net[0].bias.zero_()
        net[5].weight.copy_(torch.tensor([[-1.0], [1.0]]))
        net[5].bias.zero_()
    return net


@torch.no_grad()
def test_adapted_normalisation_recovers_the_accuracy_lost_to_a_shift():
    net = normalised_net().eval()
    kept, labels = unchanged(net), torch.arange(200) % 2
    noise = torch.randn(200, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    patches = noise + (2.0 * labels - 1)[:, None, None, None]
    shifted = patches / 50 + 3

    def accuracy(network, x):
        return (network(x).argmax(1) == labels).float().mean().item()

    adapted = transfer.adabn_batchnorm(net, shifted.split(50))
    assert accuracy(net, patches) == 1 and accuracy(net, shifted) == 0.5 and accuracy(adapted, shifted) == 1
    means, variances = zip(*((net[0](b).mean(), net[0](b).var()) for b in shifted.split(50)), strict=True)
    torch.testing.assert_close(adapted[1].running_mean[0], torch.stack(means).mean())
    torch.testing.assert_close(adapted[1].running_var[0], torch.stack(variances).mean())
    assert kept() and adapted[1].momentum == 0.1 and not any(m.training for m in adapted.modules())


@torch.no_grad()
def test_an_adapted_efficientnet_sees_a_stretched_contrast_as_it_saw_the_original():
    net = EfficientNetClassifier(3, "efficientnet_lite0", weights="imagenet").eval()
    small = nn.functional.interpolate(inputs(8)[:, :, :8, :8], size=64, mode="bicubic")
    wanted = transfer.adabn_batchnorm(net, small.split(4))
    adapted = transfer.adabn_batchnorm(net, (3 * small).split(4))  # the first convolution has no bias: a mere scale
    before = net.features(3 * small) - net.features(small)
    assert (adapted.features(3 * small) - wanted.features(small)).abs().mean() < 0.1 * before.abs().mean()
    weights = dict(net.named_parameters())
    assert all(torch.equal(tensor, weights[name]) for name, tensor in adapted.named_parameters())


def test_adaptation_says_what_is_missing():
    with pytest.raises(ValueError, match="CameraConvNet has no batch normalisation: use `adabn`"):
        transfer.adabn_batchnorm(small_net(), [inputs(2)])
    with pytest.raises(ValueError, match="no batch"):
        transfer.adabn_batchnorm(normalised_net(), [])
