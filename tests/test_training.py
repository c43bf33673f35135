"""Training learns what was planted, picks on validation only, and goes on where it was stopped."""

from copy import deepcopy

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from camid_utils import checkpoints, models, training
from camid_utils.models import CameraConvNet, EfficientNetClassifier

SETTINGS = dict(input_range="-1..1", batch_size=32, learning_rate=0.05, epochs=3, seed=1)


@pytest.fixture
def planted():
    """Patches of two classes that differ in brightness, and their rows to train and validate on."""
    rng = np.random.default_rng(0)
    labels = np.tile([0, 1], 96)
    pixels = (rng.integers(0, 60, (192, 8, 8, 3)) + 150 * labels[:, None, None, None]).astype(np.uint8)
    return pixels, labels, np.arange(128), np.arange(128, 192)


def small_net(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(192, 8), nn.Dropout(0.1), nn.ReLU(), nn.Linear(8, 2))


def head(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(8, 8), nn.Dropout(0.1), nn.ReLU(), nn.Linear(8, 2))


def copies_of(planted, copies: int) -> np.ndarray:
    """Features float32 [1 + copies, 192, 8] in which the planted classes differ."""
    rng = np.random.default_rng(1)
    return (rng.normal(size=(1 + copies, 192, 8)) + planted[1][:, None]).astype(np.float32)


def test_learns_the_planted_difference_and_logs_every_step(planted, tmp_path):
    history = training.fit(small_net(), *planted, folder=tmp_path, **SETTINGS)
    assert history.epochs["val_accuracy"].max() == 1.0
    assert history.epochs["val_precision"].max() == 1.0
    assert len(history.steps) == 3 * 4 and (history.steps["gradient_norm"] > 0).all()
    assert list(pd.read_csv(tmp_path / "steps.csv").columns) == [
        "epoch",
        "step",
        "loss",
        "accuracy",
        "gradient_norm",
    ]


def test_gradient_norm_is_the_norm_of_all_gradients(planted, tmp_path):
    """A linear network's first gradient, worked out by hand."""
    pixels, labels, train, val = planted
    net = nn.Sequential(nn.Flatten(), nn.Linear(192, 2))
    nn.init.zeros_(net[1].weight), nn.init.zeros_(net[1].bias)
    settings = SETTINGS | {"batch_size": len(train), "epochs": 1}
    exact = training.make_fabric("32-true")  # bfloat16 has three digits
    history = training.fit(net, pixels, labels, train, val, folder=tmp_path, fabric=exact, **settings)
    inputs = (pixels[train].transpose(0, 3, 1, 2).reshape(len(train), -1) - 127.5) / 127.5
    error = 0.5 - np.eye(2)[labels[train]]  # softmax of zeros minus the target
    gradients = np.concatenate([(error.T @ inputs).ravel(), error.sum(0)]) / len(train)
    assert history.steps["gradient_norm"][0] == pytest.approx(np.linalg.norm(gradients), rel=1e-4)
    assert history.steps["loss"][0] == pytest.approx(np.log(2), rel=1e-5)


def resumed(make_net, planted, folder, monkeypatch, extra) -> None:
    """A run that is stopped in its third epoch and called again ends as one that was never stopped, to the bit."""
    whole = make_net()
    expected = training.fit(whole, *planted, folder=folder / "whole", **SETTINGS | extra)

    ordinary = training._train_epoch

    def stopped(*args):
        if args[-2][1] == 3:  # [seed, epoch]
            raise KeyboardInterrupt
        return ordinary(*args)

    monkeypatch.setattr(training, "_train_epoch", stopped)
    with pytest.raises(KeyboardInterrupt):
        training.fit(make_net(), *planted, folder=folder / "cut", **SETTINGS | extra)
    monkeypatch.setattr(training, "_train_epoch", ordinary)
    again = make_net()
    history = training.fit(again, *planted, folder=folder / "cut", **SETTINGS | extra)
    pd.testing.assert_frame_equal(history.epochs, expected.epochs)
    pd.testing.assert_frame_equal(history.steps, expected.steps)
    for a, b in zip(whole.state_dict().values(), again.state_dict().values(), strict=True):
        assert torch.equal(a, b)


ONE_CYCLE = {"optimizer": "adamw", "schedule": "one-cycle", "learning_rate": 0.01, "weight_decay": 1e-4}


@pytest.mark.parametrize("extra", [{}, ONE_CYCLE])
def test_interrupted_training_ends_as_an_uninterrupted_one(planted, tmp_path, monkeypatch, extra):
    resumed(small_net, planted, tmp_path, monkeypatch, extra)


@pytest.mark.parametrize("extra", [{}, ONE_CYCLE])
def test_interrupted_training_on_features_too(planted, tmp_path, monkeypatch, extra):
    resumed(head, (copies_of(planted, 2), *planted[1:]), tmp_path, monkeypatch, extra)


def test_a_checkpoint_of_other_settings_is_not_taken(planted, tmp_path):
    training.fit(small_net(), *planted, folder=tmp_path, **SETTINGS)
    again = training.fit(small_net(), *planted, folder=tmp_path, **SETTINGS | {"seed": 2, "epochs": 1})
    assert len(again.epochs) == 1


def test_only_the_very_same_run_counts_as_finished(planted, tmp_path):
    """Its epochs are found by the key that the same arguments give, defaults included."""
    training.fit(small_net(), *planted, folder=tmp_path, **SETTINGS)

    def epochs(net: nn.Module, **change) -> int:
        key = checkpoints.run_key(net, *planted, training.deciding(SETTINGS | change))
        return len(checkpoints.finished(tmp_path, key))

    assert epochs(small_net()) == 3 and epochs(small_net(), momentum=0.9, title="another") == 3
    assert epochs(small_net(seed=1)) == epochs(small_net(), momentum=0.8) == epochs(small_net(), epochs=4) == 0
    assert len(checkpoints.finished(tmp_path, None)) == 3 and checkpoints.finished(tmp_path / "empty", None) == []


def test_the_key_of_a_run_stays_what_it_was():
    """Another key would train everything anew; where that is meant, raise checkpoints.FORMAT."""
    net = nn.Linear(2, 2)
    nn.init.ones_(net.weight), nn.init.zeros_(net.bias)
    data = np.arange(192, dtype=np.uint8).reshape(16, 2, 2, 3), np.tile([0, 1], 8), np.arange(8), np.arange(8, 16)
    key = checkpoints.run_key(net, *data, {"input_range": "0..1", "epochs": 2, "seed": 0})
    assert key.startswith("f4d4812f91ed1103")


def test_speed_is_measured_on_a_batch_more_than_once(planted):
    """As training does it, on a batch that may have more rows than there are."""
    heard = []

    class Counted(nn.Sequential):
        def forward(self, x):
            heard.append((self.training, len(x)))
            return super().forward(x)

    pixels, labels, _, _ = planted
    net = Counted(nn.Flatten(), nn.Linear(192, 2))
    step, prediction = training.speed(net, pixels, labels, np.arange(5), SETTINGS | {"schedule": "one-cycle"})
    assert step > 0 and prediction > 0
    assert heard == [(True, 32)] * 3 + [(False, 32)] * 3


@pytest.mark.parametrize("name", training.OPTIMIZERS)
def test_a_step_is_the_one_that_the_plain_optimizer_takes(planted, tmp_path, name):
    """The fused forms change the time, not the weights: one step on all rows at once, worked out beside."""
    pixels, labels, train, val = planted
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(192, 2))
    plain = deepcopy(net)
    settings = SETTINGS | {"batch_size": len(train), "epochs": 1, "learning_rate": 0.01, "weight_decay": 0.1}
    fabric = training.make_fabric(precision="32-true")
    training.fit(net, pixels, labels, train, val, folder=tmp_path, optimizer=name, fabric=fabric, **settings)
    inputs = models.to_input(torch.from_numpy(pixels[train]).permute(0, 3, 1, 2), "-1..1")
    nn.functional.cross_entropy(plain(inputs), torch.tensor(labels[train])).backward()
    options = {"momentum": 0.9} if name == "sgd" else {}
    training.OPTIMIZERS[name](plain.parameters(), lr=0.01, weight_decay=0.1, **options).step()
    for ours, theirs in zip(net.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours.cpu(), theirs, atol=1e-5, rtol=1e-4)


def test_training_on_features_is_training_the_classifier_of_a_frozen_network(tmp_path):
    """The same losses and weights, whether the frozen convolutions run at every step or ran once."""
    pixels = np.random.default_rng(0).integers(0, 255, (48, 48, 48, 3), dtype=np.uint8)
    data = np.tile([0, 1], 24), np.arange(32), np.arange(32, 48)
    torch.manual_seed(0)
    through = CameraConvNet(2, width=1 / 64)
    through.features.requires_grad_(False)
    classifier = deepcopy(through.classifier)
    with torch.no_grad():
        images = torch.from_numpy(pixels).permute(0, 3, 1, 2)
        known = through.features(models.to_input(images, "-1..1")).numpy()[None]
    settings = SETTINGS | {"batch_size": 8, "optimizer": "adamw", "learning_rate": 0.01}
    fabric = training.make_fabric(precision="32-true")
    slow = training.fit(through, pixels, *data, folder=tmp_path / "slow", fabric=fabric, **settings)
    fast = training.fit(classifier, known, *data, folder=tmp_path / "fast", fabric=fabric, **settings)
    pd.testing.assert_frame_equal(fast.steps, slow.steps, rtol=1e-3)
    pd.testing.assert_frame_equal(fast.epochs, slow.epochs, rtol=1e-3)
    assert slow.steps["loss"].nunique() == 3 * 4
    for a, b in zip(through.classifier.parameters(), classifier.parameters(), strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-3)


class Listener(nn.Module):
    """Writes down which copies it was given, and whether to train: each copy's features are its number."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 2)
        self.heard = []

    def forward(self, x):
        self.heard.append((self.training, x.unique().tolist()))
        return self.linear(x)


@pytest.mark.parametrize("copies, order", [(0, [0, 0, 0, 0, 0]), (1, [1, 1, 1, 1, 1]), (3, [1, 2, 3, 1, 2])])
def test_epochs_see_the_copies_by_turns_and_validation_the_first(tmp_path, copies, order):
    numbers = np.arange(1 + copies, dtype=np.float32)[:, None, None]
    inputs = np.broadcast_to(numbers, (1 + copies, 12, 4)).copy()
    net, settings = Listener(), SETTINGS | {"epochs": 5}
    training.fit(net, inputs, np.tile([0, 1], 6), np.arange(8), np.arange(8, 12), folder=tmp_path, **settings)
    assert net.heard == [turn for copy in order for turn in ((True, [copy]), (False, [0]))]


def test_another_copy_is_another_run(planted, tmp_path, monkeypatch):
    """A checkpoint is taken for the same features only; a single changed copy trains anew."""
    epochs, ordinary = [], training._train_epoch

    def counted(*args):
        epochs.append(args[-2][1])
        return ordinary(*args)

    monkeypatch.setattr(training, "_train_epoch", counted)
    inputs = copies_of(planted, 2)
    for _ in range(2):
        training.fit(head(), inputs, *planted[1:], folder=tmp_path, **SETTINGS)
    assert epochs == [1, 2, 3]  # the second call found all done
    other = inputs.copy()
    other[2] += 1
    training.fit(head(), other, *planted[1:], folder=tmp_path, **SETTINGS)
    assert epochs == [1, 2, 3] * 2


def test_leaves_the_weights_of_the_best_validation_epoch(planted, tmp_path):
    """A learning rate that destroys the network later on must not destroy what is returned."""
    pixels, labels, train, val = planted
    net = small_net()
    settings = SETTINGS | {"learning_rate": 0.9, "epochs": 6, "select": "val_loss"}
    history = training.fit(net, pixels, labels, train, val, folder=tmp_path, **settings)
    losses = history.epochs["val_loss"]
    assert history.best_epoch == losses.idxmin() + 1
    fabric = training.make_fabric()
    logits = training.logits_of(net, fabric, pixels, val, 64, "-1..1")
    assert float(nn.functional.cross_entropy(logits, torch.tensor(labels[val]))) == pytest.approx(
        losses.min(), rel=1e-4
    )


def test_stops_when_patience_is_out(planted, tmp_path):
    settings = SETTINGS | {"learning_rate": 0.0, "epochs": 9, "patience": 2}
    assert len(training.fit(small_net(), *planted, folder=tmp_path, **settings).epochs) == 3


def test_best_epoch_ignores_what_is_not_a_number():
    history = [{"val_loss": float("nan")}, {"val_loss": 2.0}, {"val_loss": 1.0}, {"val_loss": 1.0}]
    assert training._best_epoch(history, "val_loss") == 3


def test_frozen_layers_do_not_move(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (16, 48, 48, 3), dtype=np.uint8)
    net = CameraConvNet(2, width=1 / 64)
    net.features.requires_grad_(False)
    before = {name: t.clone() for name, t in net.state_dict().items()}
    training.fit(net, pixels, np.tile([0, 1], 8), np.arange(8), np.arange(8, 16), folder=tmp_path, **SETTINGS)
    moved = {name.split(".")[0] for name, t in net.state_dict().items() if not torch.equal(t, before[name])}
    assert moved == {"1"}


def test_augmentation_draws_for_each_sample_and_keeps_the_range():
    torch.manual_seed(0)
    image = torch.rand(1, 3, 16, 16)
    out = training.augmentation(flip=True, rotation=10, jitter=0.2)(image.repeat(8, 1, 1, 1))
    assert out.shape == (8, 3, 16, 16) and out.min() >= 0 and out.max() <= 1
    assert len({tuple(sample.flatten().tolist()) for sample in out}) == 8


def test_flip_alone_changes_no_pixel_value():
    torch.manual_seed(0)
    image = torch.rand(8, 3, 6, 6)
    out = training.augmentation(flip=True)(image)
    same = [torch.equal(a, b) or torch.equal(a, b.flip(-1)) for a, b in zip(out, image, strict=True)]
    assert all(same) and not torch.equal(out, image)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"optimizer": "rmsprop"}, "sgd, adam, adamw"),
        ({"select": "test_accuracy"}, "val_accuracy, val_loss"),
        ({"val": np.arange(0)}, "0 to validate on"),
        ({"val": np.arange(100, 192)}, "share rows"),
        ({"labels": np.full(192, -1)}, "no class"),
    ],
)
def test_wrong_input_is_named(planted, tmp_path, change, message):
    arguments = dict(zip(("inputs", "labels", "train", "val"), planted, strict=True)) | SETTINGS | change
    with pytest.raises(ValueError, match=message):
        training.fit(small_net(), folder=tmp_path, **arguments)


def test_wandb_offline_keeps_every_step_on_this_machine(planted, tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    training.fit(small_net(), *planted, folder=tmp_path, wandb_project="camid-test", **SETTINGS | {"epochs": 1})
    (record,) = (tmp_path / "wandb").glob("offline-run-*/*.wandb")
    assert b"gradient_norm" in record.read_bytes()


def test_efficientnet_v2_m_trains(tmp_path):
    """The paper's backbone, from random weights, for two steps: everything moves, nothing is frozen."""
    torch.manual_seed(0)
    pixels = np.random.default_rng(0).integers(0, 255, (6, 64, 64, 3), dtype=np.uint8)
    net = EfficientNetClassifier(2, "efficientnet_v2_m", weights=None)
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    settings = dict(input_range="imagenet", epochs=1, batch_size=2, learning_rate=0.001, optimizer="sgd")
    history = training.fit(
        net, pixels, np.tile([0, 1], 3), np.arange(4), np.arange(4, 6), folder=tmp_path, momentum=0, **settings
    )
    assert len(history.steps) == 2 and np.isfinite(history.steps[["loss", "gradient_norm"]]).all(axis=None)
    assert (history.steps["gradient_norm"] > 0).all()
    still = [name for name, p in net.named_parameters() if torch.equal(p.detach(), before[name])]
    assert len(still) < 0.05 * len(before), still
    (tmp_path / "checkpoint.safetensors").unlink()  # hundreds of megabytes
