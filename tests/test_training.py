"""Training learns planted differences, selects on validation only, and resumes interrupted runs to the bit."""

from copy import deepcopy

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from camid_utils import augmentation, checkpoints, models, training
from camid_utils.batches import logits_of

SETTINGS = dict(input_range="-1..1", batch_size=32, learning_rate=0.05, epochs=3)


@pytest.fixture
def planted():
    """Patches of two classes that differ in brightness, their labels, and the rows to train and validate on."""
    rng = np.random.default_rng(0)
    labels = np.tile([0, 1], 96)
    pixels = (rng.integers(0, 60, (192, 8, 8, 3)) + 150 * labels[:, None, None, None]).astype(np.uint8)
    return pixels, labels, np.arange(128), np.arange(128, 192)


@pytest.fixture
def planted_features(planted):
    """The same for features [3, 192, 8]: originals and two augmented copies."""
    rng = np.random.default_rng(1)
    features = rng.normal(size=(3, 192, 8)) + planted[1][:, None]
    return features.astype(np.float32), *planted[1:]


def small_net(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(192, 8), nn.Dropout(0.1), nn.ReLU(), nn.Linear(8, 2))


def linear_head() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 8), nn.Dropout(0.1), nn.ReLU(), nn.Linear(8, 2))


def convolutional_net() -> nn.Module:
    torch.manual_seed(0)
    return models.CameraConvNet(2, width=1 / 64)


class Counted(nn.Sequential):
    """A network that records whether it is training, and its inputs."""

    def __init__(self, *layers):
        super().__init__(*layers)
        self.calls = []

    def forward(self, x):
        self.calls.append((self.training, x))
        return super().forward(x)


# learning


def test_the_planted_difference_is_learned_and_every_step_is_logged(planted, tmp_path):
    history = training.fit(small_net(), *planted, SETTINGS, tmp_path)
    assert history.epochs["val_accuracy"].max() == history.epochs["val_precision"].max() == 1.0
    assert history.steps["step"].tolist() == list(range(1, 13)) and (history.steps["gradient_norm"] > 0).all()
    logged = pd.read_csv(tmp_path / "steps.csv")
    assert logged.columns.tolist() == ["epoch", "step", "loss", "accuracy", "gradient_norm"] and len(logged) == 12


def test_the_gradient_norm_is_that_of_all_gradients(planted, tmp_path, cpu_fabric):
    """A linear network's first gradient, computed by hand."""
    pixels, labels, train, _ = planted
    net = nn.Sequential(nn.Flatten(), nn.Linear(192, 2))
    nn.init.zeros_(net[1].weight), nn.init.zeros_(net[1].bias)
    settings = SETTINGS | {"batch_size": len(train), "epochs": 1}
    steps = training.fit(net, *planted, settings, tmp_path, fabric=cpu_fabric).steps
    inputs = (pixels[train].transpose(0, 3, 1, 2).reshape(len(train), -1) - 127.5) / 127.5
    error = 0.5 - np.eye(2)[labels[train]]  # softmax of zeros minus the target
    gradients = np.concatenate([(error.T @ inputs).ravel(), error.sum(0)]) / len(train)
    assert steps["gradient_norm"][0] == pytest.approx(np.linalg.norm(gradients), rel=1e-4)
    assert steps["loss"][0] == pytest.approx(np.log(2), rel=1e-5)


@pytest.mark.parametrize("name", training.OPTIMIZERS)
def test_a_fused_step_equals_the_plain_step(planted, tmp_path, cpu_fabric, name):
    pixels, labels, train, _ = planted
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(192, 2))
    plain = deepcopy(net)
    change = dict(batch_size=len(train), epochs=1, learning_rate=0.01, weight_decay=0.1, optimizer=name)
    training.fit(net, *planted, SETTINGS | change, tmp_path, fabric=cpu_fabric)
    inputs = models.to_input(torch.from_numpy(pixels[train]).permute(0, 3, 1, 2), "-1..1")
    nn.functional.cross_entropy(plain(inputs), torch.tensor(labels[train])).backward()
    options = {"momentum": 0.9} if name == "sgd" else {}
    training.OPTIMIZERS[name](plain.parameters(), lr=0.01, weight_decay=0.1, **options).step()
    for ours, theirs in zip(net.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)


def test_the_best_validation_epoch_is_kept(planted, tmp_path, cpu_fabric):
    """The learning rate later destroys the network; what is returned must not suffer."""
    pixels, labels, _, val = planted
    settings = SETTINGS | {"learning_rate": 0.9, "epochs": 6, "select": "val_loss"}
    net = small_net()
    history = training.fit(net, *planted, settings, tmp_path, fabric=cpu_fabric)
    losses = history.epochs["val_loss"]
    assert history.best_epoch == losses.idxmin() + 1 < len(losses)
    logits = logits_of(net, cpu_fabric, pixels, val, 64, "-1..1")
    assert float(nn.functional.cross_entropy(logits, torch.tensor(labels[val]))) == pytest.approx(losses.min())


def test_a_loss_that_is_not_a_number_is_never_best():
    history = [{"val_loss": value} for value in (float("nan"), 2.0, 1.0, 1.0)]
    assert training._best_epoch(history, "val_loss") == 3


def test_training_stops_when_patience_runs_out(planted, tmp_path):
    settings = SETTINGS | {"learning_rate": 0.0, "epochs": 9, "patience": 2}
    assert len(training.fit(small_net(), *planted, settings, tmp_path).epochs) == 3


def test_frozen_layers_do_not_change(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (16, 48, 48, 3), dtype=np.uint8)
    net = convolutional_net()
    net.features.requires_grad_(False)
    before = {name: t.clone() for name, t in net.state_dict().items()}
    training.fit(net, pixels, np.tile([0, 1], 8), np.arange(8), np.arange(8, 16), SETTINGS, tmp_path)
    changed = {name.split(".")[0] for name, t in net.state_dict().items() if not torch.equal(t.cpu(), before[name])}
    assert changed == {"1"}  # the classifier


def test_training_on_features_equals_training_with_frozen_convolutions(tmp_path, cpu_fabric):
    pixels = np.random.default_rng(0).integers(0, 255, (48, 48, 48, 3), dtype=np.uint8)
    data = np.tile([0, 1], 24), np.arange(32), np.arange(32, 48)
    through = convolutional_net()
    through.features.requires_grad_(False)
    classifier = deepcopy(through.classifier)
    with torch.no_grad():
        known = through.features(models.to_input(torch.from_numpy(pixels).permute(0, 3, 1, 2), "-1..1")).numpy()[None]
    settings = SETTINGS | {"batch_size": 8, "optimizer": "adamw", "learning_rate": 0.01}
    slow = training.fit(through, pixels, *data, settings, tmp_path / "slow", fabric=cpu_fabric)
    fast = training.fit(classifier, known, *data, settings, tmp_path / "fast", fabric=cpu_fabric)
    pd.testing.assert_frame_equal(fast.steps, slow.steps, rtol=1e-3)
    pd.testing.assert_frame_equal(fast.epochs, slow.epochs, rtol=1e-3)
    assert slow.steps["loss"].nunique() == 3 * 4
    for a, b in zip(through.classifier.parameters(), classifier.parameters(), strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("copies, order", [(0, [0, 0, 0, 0, 0]), (1, [1, 1, 1, 1, 1]), (3, [1, 2, 3, 1, 2])])
def test_epochs_use_the_augmented_copies_in_turn_and_validation_the_originals(tmp_path, copies, order):
    numbers = np.arange(1 + copies, dtype=np.float32)[:, None, None]
    inputs = np.broadcast_to(numbers, (1 + copies, 12, 4)).copy()
    net, data = Counted(nn.Linear(4, 2)), (np.tile([0, 1], 6), np.arange(8), np.arange(8, 12))
    training.fit(net, inputs, *data, SETTINGS | {"epochs": 5}, tmp_path)
    seen = [(train, x.unique().tolist()) for train, x in net.calls]
    assert seen == [turn for copy in order for turn in ((True, [copy]), (False, [0]))]


def test_augmentation_draws_for_each_image_and_keeps_the_range():
    torch.manual_seed(0)
    image = torch.rand(1, 3, 16, 16).repeat(8, 1, 1, 1)
    out = augmentation.augmentation(flip=True, rotation=10, jitter=0.2)(image)
    assert out.shape == image.shape and out.min() >= 0 and out.max() <= 1
    assert len({tuple(sample.flatten().tolist()) for sample in out}) == 8
    out = augmentation.augmentation(flip=True)(image)  # flips alone change no pixel value
    same = [torch.equal(a, b) or torch.equal(a, b.flip(-1)) for a, b in zip(out, image, strict=True)]
    assert all(same) and not torch.equal(out, image)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"optimizer": "rmsprop"}, "no optimizer named 'rmsprop': choose one of sgd, adam, adamw"),
        ({"select": "test_accuracy"}, "choose one of val_accuracy, val_loss"),
        ({"schedule": "cosine"}, "choose one of constant, one-cycle"),
        ({"learning_rat": 0.1}, r"unknown \['learning_rat'\], missing \[\]"),
        ({"val": np.arange(0)}, "128 rows to train on, 0 to validate on"),
        ({"val": np.arange(100, 192)}, "share rows"),
        ({"labels": np.full(192, -1)}, "has no class"),
    ],
)
def test_wrong_input_is_named(planted, tmp_path, change, message):
    data = dict(zip(("inputs", "labels", "train", "val"), planted, strict=True))
    data |= {name: value for name, value in change.items() if name in data}
    settings = SETTINGS | {name: value for name, value in change.items() if name not in data}
    with pytest.raises(ValueError, match=message):
        training.fit(small_net(), **data, settings=settings, folder=tmp_path)


def test_missing_hyperparameters_are_named_and_others_have_defaults():
    with pytest.raises(ValueError, match=r"missing \['batch_size', 'epochs'\]"):
        training.hyperparameters(input_range="0..1")
    assert training.hyperparameters(**SETTINGS) == training.DEFAULTS | SETTINGS


def test_wandb_offline_keeps_every_step_on_this_machine(planted, tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    training.fit(small_net(), *planted, SETTINGS | {"epochs": 1}, tmp_path, wandb_project="camid-test")
    (record,) = (tmp_path / "wandb").glob("offline-run-*/*.wandb")
    assert b"gradient_norm" in record.read_bytes()


@pytest.mark.slow
def test_efficientnet_v2_m_trains(tmp_path):
    """The paper's backbone, from random weights, for two steps: everything changes, nothing is frozen."""
    torch.manual_seed(0)
    pixels = np.random.default_rng(0).integers(0, 255, (6, 64, 64, 3), dtype=np.uint8)
    net = models.EfficientNetClassifier(2, "efficientnet_v2_m", weights=None)
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    settings = dict(input_range="imagenet", epochs=1, batch_size=2, momentum=0)
    data = pixels, np.tile([0, 1], 3), np.arange(4), np.arange(4, 6)
    steps = training.fit(net, *data, settings, tmp_path).steps
    assert len(steps) == 2 and np.isfinite(steps["loss"]).all() and (steps["gradient_norm"] > 0).all()
    still = [name for name, p in net.named_parameters() if torch.equal(p.detach().cpu(), before[name])]
    assert len(still) < 0.05 * len(before), still


# checkpoints


def resumes_to_the_bit(make_net, data, settings, folder, fabric, interrupt_after, same_weights, augment=None):
    """Whether a run that is interrupted after every epoch's checkpoint ends as an uninterrupted one."""

    def train(name: str) -> tuple[nn.Module, training.History]:
        net = make_net()
        return net, training.fit(net, *data, settings, folder / name, augment=augment, seed=1, fabric=fabric)

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
    assert same_weights(net, whole)


@pytest.fixture
def check_resume(tmp_path, cpu_fabric, interrupt_after, same_weights):
    def check(make_net, data, settings, augment=None):
        resumes_to_the_bit(
            make_net, data, settings, tmp_path / make_net.__name__, cpu_fabric, interrupt_after, same_weights, augment
        )

    return check


@pytest.mark.parametrize("schedule", training.SCHEDULES)
@pytest.mark.parametrize("optimizer", training.OPTIMIZERS)
def test_an_interrupted_training_resumes_to_the_bit(planted_features, check_resume, optimizer, schedule):
    """On patches through convolutions with channels-last weights, with augmentation, and on features."""
    rate = {"sgd": 0.02}.get(optimizer, 0.002)
    settings = SETTINGS | dict(optimizer=optimizer, schedule=schedule, learning_rate=rate, weight_decay=1e-4)
    check_resume(linear_head, planted_features, settings)
    labels = np.tile([0, 1], 20)
    pixels = np.random.default_rng(0).integers(0, 156, (40, 48, 48, 3)) + 99 * labels[:, None, None, None]
    data = pixels.astype(np.uint8), labels, np.arange(28), np.arange(28, 40)
    check_resume(convolutional_net, data, settings | {"batch_size": 8}, augmentation.augmentation(flip=True))


@pytest.mark.slow
def test_an_interrupted_efficientnet_resumes_to_the_bit(check_resume):
    """With batch normalisation, depthwise convolutions, pretrained weights and the notebooks' optimizer."""

    def net() -> nn.Module:
        torch.manual_seed(0)
        return models.EfficientNetClassifier(2, "efficientnet_lite0")

    pixels = np.random.default_rng(0).integers(0, 255, (12, 64, 64, 3), dtype=np.uint8)
    settings = dict(input_range="imagenet", batch_size=4, epochs=3, optimizer="adamw", schedule="one-cycle")
    check_resume(net, (pixels, np.tile([0, 1], 6), np.arange(8), np.arange(8, 12)), settings)


def test_a_finished_run_is_not_trained_again(planted_features, tmp_path, same_weights):
    nets = [Counted(nn.Linear(8, 2)) for _ in range(2)]
    nets[1].load_state_dict(nets[0].state_dict())
    first, again = (training.fit(net, *planted_features, SETTINGS, tmp_path) for net in nets)
    assert len(nets[0].calls) == 3 * (4 + 2) and nets[1].calls == []
    pd.testing.assert_frame_equal(first.steps, again.steps, check_exact=True)
    assert same_weights(*nets)


@pytest.mark.parametrize("changed", ["settings", "seed", "weights", "train", "augmented copy"])
def test_a_checkpoint_of_another_run_is_not_used(planted_features, tmp_path, changed):
    inputs, labels, train, val = planted_features
    net = nn.Linear(8, 2)
    start = deepcopy(net.state_dict())
    training.fit(net, inputs, labels, train, val, SETTINGS, tmp_path)
    other = Counted(nn.Linear(8, 2))
    other[0].load_state_dict(start)
    with torch.no_grad():
        other[0].bias += changed == "weights"
    moved = inputs + np.array([0, 0, changed == "augmented copy"], np.float32)[:, None, None]
    settings = SETTINGS | {"learning_rate": 0.06 if changed == "settings" else SETTINGS["learning_rate"]}
    train = train[: 100 if changed == "train" else None]
    training.fit(other, moved, labels, train, val, settings, tmp_path, seed=int(changed == "seed"))
    assert sum(training_step for training_step, _ in other.calls) == 3 * 4


def test_the_key_of_a_run_does_not_change():
    """Another key would train everything again; where that is intended, raise checkpoints.FORMAT."""
    net = nn.Linear(2, 2)
    nn.init.ones_(net.weight), nn.init.zeros_(net.bias)
    data = np.arange(192, dtype=np.uint8).reshape(16, 2, 2, 3), np.tile([0, 1], 8), np.arange(8), np.arange(8, 16)
    key = checkpoints.run_key(net, *data, {"input_range": "0..1", "epochs": 2, "seed": 0})
    assert key.startswith("f4d4812f91ed1103")
