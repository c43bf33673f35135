"""Training learns planted differences, selects on validation only, and resumes interrupted runs to the bit."""

from contextlib import nullcontext
from copy import deepcopy

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from camid_utils import augmentation, models, training
from camid_utils.batches import logits_of

SETTINGS = dict(input_range="-1..1", batch_size=32, learning_rate=0.05, epochs=3)
LABELS = np.tile([0, 1], 96)


def planted(size: int = 8, count: int = 192) -> tuple:
    """Patches of two classes that differ in brightness, their labels, and the rows to train and validate on."""
    noise = np.random.default_rng(0).integers(0, 60, (count, size, size, 3))
    pixels = (noise + 150 * LABELS[:count, None, None, None]).astype(np.uint8)
    return pixels, LABELS[:count], np.arange(count * 2 // 3), np.arange(count * 2 // 3, count)


def planted_features() -> tuple:
    """The same for features [3, 192, 8]: originals and two augmented copies."""
    noise = np.random.default_rng(1).normal(size=(3, 192, 8))
    return (noise + LABELS[:, None]).astype(np.float32), *planted()[1:]


def convolutional_net() -> nn.Module:
    torch.manual_seed(0)
    return models.CameraConvNet(2, width=1 / 64)


def dense_net(inputs: int = 192) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(inputs, 8), nn.Dropout(0.1), nn.ReLU(), nn.Linear(8, 2))


def test_the_planted_difference_is_learned_and_every_step_is_logged(tmp_path):
    history = training.fit(dense_net(), *planted(), SETTINGS, tmp_path)
    assert history.epochs["val_accuracy"].max() == history.epochs["val_precision"].max() == 1.0
    assert history.steps["step"].tolist() == list(range(1, 13))
    logged = pd.read_csv(tmp_path / "steps.csv")
    assert logged.columns.tolist() == ["epoch", "step", "loss", "accuracy", "gradient_norm"] and len(logged) == 12


@pytest.mark.parametrize("name", training.OPTIMIZERS)
def test_a_step_and_its_gradient_norm_are_those_of_the_plain_optimizer(tmp_path, on_cpu, name):
    """The fused forms change the time, not the weights: one step on all rows at once, computed here as well."""
    pixels, labels, train, _ = planted()
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(192, 2))
    plain = deepcopy(net)
    change = dict(batch_size=len(train), epochs=1, learning_rate=0.01, weight_decay=0.1, optimizer=name)
    steps = training.fit(net, *planted(), SETTINGS | change, tmp_path).steps
    inputs = models.to_input(torch.from_numpy(pixels[train]).permute(0, 3, 1, 2), "-1..1")
    nn.functional.cross_entropy(plain(inputs), torch.tensor(labels[train])).backward()
    gradients = torch.cat([p.grad.flatten() for p in plain.parameters()])
    assert steps["gradient_norm"][0] == pytest.approx(float(gradients.norm()), rel=1e-4)
    options = {"momentum": 0.9} if name == "sgd" else {}
    training.OPTIMIZERS[name](plain.parameters(), lr=0.01, weight_decay=0.1, **options).step()
    for ours, theirs in zip(net.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)


def test_the_best_validation_epoch_is_kept_and_patience_ends_the_training(tmp_path, on_cpu):
    """The learning rate later destroys the network; what is returned must not suffer. NaN is never best."""
    (pixels, labels, _, val), net = planted(), dense_net()
    settings = SETTINGS | {"learning_rate": 0.9, "epochs": 20, "select": "val_loss", "patience": 4}
    history = training.fit(net, *planted(), settings, tmp_path)
    losses = history.epochs["val_loss"]
    assert history.best_epoch == losses.idxmin() + 1 == len(losses) - 4 < 16
    logits = logits_of(net, on_cpu, pixels, val, 64, "-1..1")
    assert float(nn.functional.cross_entropy(logits, torch.tensor(labels[val]))) == pytest.approx(losses.min())
    assert training._best_epoch([{"val_loss": x} for x in (float("nan"), 2.0, 1.0, 1.0)], "val_loss") == 3


def test_frozen_layers_do_not_change_and_training_on_their_features_is_the_same(tmp_path, on_cpu):
    pixels, *split = planted(48, 48)
    net = convolutional_net()
    net.features.requires_grad_(False)
    classifier, frozen = deepcopy(net.classifier), deepcopy(net.features.state_dict())
    with torch.no_grad():
        known = net.features(models.to_input(torch.from_numpy(pixels).permute(0, 3, 1, 2), "-1..1")).numpy()[None]
    settings = SETTINGS | {"batch_size": 8, "optimizer": "adamw", "learning_rate": 0.01}
    slow = training.fit(net, pixels, *split, settings, tmp_path / "slow")
    fast = training.fit(classifier, known, *split, settings, tmp_path / "fast")
    assert all(torch.equal(t, frozen[name]) for name, t in net.features.state_dict().items())
    pd.testing.assert_frame_equal(fast.steps, slow.steps, rtol=1e-3, atol=1e-4)
    for a, b in zip(net.classifier.parameters(), classifier.parameters(), strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("copies, order", [(0, [0, 0, 0, 0, 0]), (1, [1, 1, 1, 1, 1]), (3, [1, 2, 3, 1, 2])])
def test_epochs_use_the_augmented_copies_in_turn_and_validation_the_originals(tmp_path, copies, order):
    inputs = np.repeat(np.arange(1 + copies, dtype=np.float32), 12 * 4).reshape(1 + copies, 12, 4)
    net, seen = nn.Linear(4, 2), []
    net.register_forward_hook(lambda net, x, _: seen.append((net.training, x[0].unique().tolist())))
    training.fit(net, inputs, LABELS[:12], np.arange(8), np.arange(8, 12), SETTINGS | {"epochs": 5}, tmp_path)
    assert seen == [turn for copy in order for turn in ((True, [copy]), (False, [0]))]


@pytest.mark.parametrize(
    "change, message",
    [
        ({"settings": {"optimizer": "rmsprop"}}, "no optimizer named 'rmsprop': choose one of sgd, adam, adamw"),
        ({"settings": {"select": "test_accuracy"}}, "choose one of val_accuracy, val_loss"),
        ({"settings": {"learning_rat": 0.1}}, r"unknown \['learning_rat'\], missing \[\]"),
        ({"val": np.arange(0)}, "128 rows to train on, 0 to validate on"),
        ({"val": np.arange(100, 192)}, "share rows"),
        ({"labels": np.full(192, -1)}, "has no class"),
    ],
)
def test_wrong_input_is_named(tmp_path, change, message):
    data = dict(zip(("inputs", "labels", "train", "val"), planted(), strict=True)) | change
    data["settings"] = SETTINGS | change.get("settings", {})
    with pytest.raises(ValueError, match=message):
        training.fit(dense_net(), **data, folder=tmp_path)


def check_resume(make_net, data: tuple, settings: dict, folder, interrupt_after, augment=None) -> None:
    """A run that is interrupted after every epoch's checkpoint must end as an uninterrupted one."""

    def train(name: str) -> tuple[nn.Module, training.History]:
        net = make_net()
        return net, training.fit(net, *data, settings, folder / name, augment=augment, seed=1)

    whole, expected = train("whole")
    for epoch in range(1, settings["epochs"]):
        interrupt_after(epoch)
        with pytest.raises(KeyboardInterrupt):
            train("interrupted")
        assert pd.read_csv(folder / "interrupted" / "epochs.csv")["epoch"].tolist() == list(range(1, epoch + 1))
    interrupt_after(0)
    net, history = train("interrupted")
    pd.testing.assert_frame_equal(history.steps, expected.steps, check_exact=True)
    pd.testing.assert_frame_equal(history.epochs, expected.epochs, check_exact=True)
    assert history.best_epoch == expected.best_epoch and expected.steps["loss"].nunique() == len(expected.steps)
    assert all(torch.equal(t, whole.state_dict()[name]) for name, t in net.state_dict().items())


@pytest.mark.parametrize("schedule", training.SCHEDULES)
@pytest.mark.parametrize("optimizer", training.OPTIMIZERS)
@pytest.mark.parametrize("network", ["convolutional", "on features"])
def test_an_interrupted_training_resumes_to_the_bit(tmp_path, on_cpu, interrupt_after, network, optimizer, schedule):
    """Convolutions have channels-last weights, and so must the optimizer's tensors."""
    rate = 0.02 if optimizer == "sgd" else 0.002
    settings = SETTINGS | dict(optimizer=optimizer, schedule=schedule, learning_rate=rate, weight_decay=1e-4)
    if network == "convolutional":
        settings, flip = settings | {"batch_size": 8}, augmentation.augmentation(flip=True)
        check_resume(convolutional_net, planted(48, 42), settings, tmp_path, interrupt_after, flip)
    else:
        check_resume(lambda: dense_net(8), planted_features(), settings, tmp_path, interrupt_after)


@pytest.mark.slow
def test_an_interrupted_efficientnet_resumes_to_the_bit(tmp_path, on_cpu, interrupt_after):
    """With batch normalisation, depthwise convolutions and the notebooks' optimizer."""

    def net() -> nn.Module:
        torch.manual_seed(0)
        return models.EfficientNetClassifier(2, "efficientnet_lite0")

    settings = dict(input_range="imagenet", batch_size=4, epochs=3, optimizer="adamw", schedule="one-cycle")
    check_resume(net, planted(64, 12), settings, tmp_path, interrupt_after)


@pytest.mark.parametrize("changed", ["nothing", "settings", "seed", "weights", "train", "augmented copy"])
def test_a_run_is_trained_again_only_if_something_changed(tmp_path, interrupt_after, changed):
    inputs, labels, train, val = planted_features()
    training.fit(dense_net(8), inputs, labels, train, val, SETTINGS, tmp_path)
    interrupt_after(1)  # a run that trains again will meet this
    net = dense_net(8)
    with torch.no_grad():
        net[1].bias += changed == "weights"
    inputs[2] += changed == "augmented copy"
    settings = SETTINGS | {"learning_rate": 0.06 if changed == "settings" else 0.05}
    train = train[: 100 if changed == "train" else None]
    with nullcontext() if changed == "nothing" else pytest.raises(KeyboardInterrupt):
        training.fit(net, inputs, labels, train, val, settings, tmp_path, seed=int(changed == "seed"))
