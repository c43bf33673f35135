"""Training learns planted differences, selects on validation only, and resumes interrupted runs to the bit."""

import json
import os
import re
import subprocess
import sys
from contextlib import nullcontext
from copy import deepcopy
from itertools import product
from types import SimpleNamespace
from unittest.mock import Mock

import lightning_fabric
import numpy as np
import pandas as pd
import pytest
import torch
from helpers import colour_net
from torch import nn
from torch.optim.optimizer import register_optimizer_step_pre_hook

from camid_utils import batches, checkpoints, evaluation, models, training
from camid_utils.analyses import open_set
from camid_utils.batches import logits_of
from camid_utils.identify import predict

SETTINGS = dict(input_range="-1..1", batch_size=32, learning_rate=0.05, epochs=3)
LABELS = np.tile([0, 1], 96)
FLIP = {"flip": True, "rotation": 10.0}


def planted(size: int = 8, count: int = 192) -> tuple:
    """Patches of two classes that differ in brightness, their labels, and the rows to train and validate on."""
    noise = np.random.default_rng(0).integers(0, 60, (count, size, size, 3))
    pixels = (noise + 150 * LABELS[:count, None, None, None]).astype(np.uint8)
    return pixels, LABELS[:count], np.arange(count * 2 // 3), np.arange(count * 2 // 3, count)


def planted_features() -> tuple:
    """The same for features [3, 192, 8]: originals and two augmented copies."""
    noise = np.random.default_rng(1).normal(size=(3, 192, 8))
    return (noise + LABELS[:, None]).astype(np.float32), *planted()[1:]


def dense_net(inputs: int = 192) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(inputs, 8), nn.Dropout(0.1), nn.ReLU(), nn.Linear(8, 2))


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


def overfitted(size: int = 8, count: int = 192) -> tuple:
    """The planted patches with the opposite classes for validation: its loss rises from the first epoch on."""
    pixels, labels, train, val = planted(size, count)
    return pixels, np.where(np.isin(np.arange(count), val), 1 - labels, labels), train, val


@pytest.fixture
def rates():
    """The learning rate at each step that an optimizer makes."""
    seen = []
    handle = register_optimizer_step_pre_hook(lambda opt, *_: seen.append(float(opt.param_groups[0]["lr"])))
    yield seen
    handle.remove()


@pytest.mark.parametrize(
    "limits, epochs_by_rate, plateau",
    [
        (dict(epochs=9, patience=3), [4], True),
        (dict(epochs=9, patience=2, drops=1), [3, 2], True),
        (dict(epochs=5, patience=2, drops=1), [3, 2], True),  # in the last epoch
        (dict(epochs=6, patience=2, drops=2), [3, 2, 1], False),
        (dict(epochs=2, patience=3), [2], False),
        (dict(epochs=4), [4], False),
    ],
)
def test_the_rate_falls_to_a_tenth_and_training_ends_where_validation_loss_stops_falling(
    tmp_path, on_cpu, rates, limits, epochs_by_rate, plateau
):
    """Here no epoch has a lower loss than the first, whose weights are kept; a run that meets its limit is marked."""
    net, (pixels, labels, train, val) = dense_net(), overfitted()
    history = training.fit(net, pixels, labels, train, val, SETTINGS | limits, tmp_path)
    expected = [0.05 * 0.1**drop for drop, epochs in enumerate(epochs_by_rate) for _ in range(4 * epochs)]
    assert rates == pytest.approx(expected) and history.plateau is plateau and history.best_epoch == 1
    losses = history.epochs["val_loss"]
    assert losses.is_monotonic_increasing and losses.is_unique
    logits = logits_of(net, on_cpu, pixels, val, 64, "-1..1")
    assert float(nn.functional.cross_entropy(logits, torch.tensor(labels[val]))) == pytest.approx(losses[0])


def test_a_lower_loss_starts_the_count_of_patience_again():
    losses = [3, 2, 2, 1.9, 2, 1.9, 2, 2, 1, 1, 1]  # an equal loss is not lower; after a drop, two more epochs
    history = [{"val_loss": loss, "val_accuracy": 0.5 + (loss == 2) / 2} for loss in losses]
    found = [training._plateaus(history[:count], {"patience": 2}) for count in range(len(losses) + 1)]
    assert found == [0, 0, 0, 0, 0, 0, 1, 1, 2, 2, 2, 3] and training._best_epoch(history) == 2


@pytest.mark.parametrize("copies, order", [(0, [0, 0, 0, 0, 0]), (3, [1, 2, 3, 1, 2])])
def test_epochs_use_the_augmented_copies_in_turn_and_validation_the_originals(tmp_path, on_cpu, copies, order):
    inputs = np.repeat(np.arange(1 + copies, dtype=np.float32), 12 * 4).reshape(1 + copies, 12, 4)
    net, seen = nn.Linear(4, 2), []
    net.register_forward_hook(lambda net, x, _: seen.append((net.training, x[0].unique().tolist())))
    training.fit(net, inputs, LABELS[:12], np.arange(8), np.arange(8, 12), SETTINGS | {"epochs": 5}, tmp_path)
    assert seen == [turn for copy in order for turn in ((True, [copy]), (False, [0]))]


@pytest.mark.parametrize(
    "change, message",
    [
        ({"settings": {"optimizer": "rmsprop"}}, "no optimizer named 'rmsprop': choose one of sgd, adam, adamw"),
        ({"settings": {"learning_rat": 0.1}}, r"unknown \['learning_rat'\], missing \[\]"),
        ({"settings": {"epochs": -1}}, "epochs=-1: give a whole number, 1 or more"),
        ({"settings": {"epochs": 1.5}}, "epochs=1.5: give a whole number"),
        ({"settings": {"patience": -1}}, "patience=-1: give a whole number, 0 or more"),
        ({"settings": {"learning_rate": float("nan")}}, "learning_rate=nan: give a number, 0 or more"),
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


RUNS = list(product(["CameraConvNet", "CameraConvNet, NCHW", "features"], training.OPTIMIZERS))
RUNS += [pytest.param("EfficientNet-Lite0", "adamw", marks=pytest.mark.slow)]


@pytest.mark.parametrize("network, optimizer", RUNS)
def test_an_interrupted_training_resumes_to_the_bit(tmp_path, on_cpu, monkeypatch, interrupt_after, network, optimizer):
    """Interrupted after every epoch's checkpoint, also where the rate falls before the next.

    The optimizer's tensors must have the layout of the weights.
    """
    network, _, nchw = network.partition(", ")
    if nchw:
        monkeypatch.setattr(training.batches, "layout", lambda device: torch.contiguous_format)
    make_net, data, augment = {
        "CameraConvNet": (lambda: models.CameraConvNet(2, 1 / 64), overfitted(48, 42), FLIP),
        "features": (lambda: dense_net(8), (planted_features()[0], *overfitted()[1:]), None),
        "EfficientNet-Lite0": (lambda: models.EfficientNetClassifier(2, "efficientnet_lite0"), planted(64, 24), None),
    }[network]
    monkeypatch.setattr(training, "CHECKPOINTS", 1)  # one after every epoch
    rate = 0.02 if optimizer == "sgd" else 0.002
    settings = SETTINGS | dict(optimizer=optimizer, learning_rate=rate, weight_decay=1e-4, patience=1, drops=9)
    settings |= dict(batch_size=len(data[2]) // 4, epochs=4)

    def train(name: str) -> tuple[nn.Module, training.History]:
        torch.manual_seed(0)
        net = make_net()
        return net, training.fit(net, *data, settings, tmp_path / name, augment=augment, seed=1)

    whole, expected = train("whole")
    assert network == "EfficientNet-Lite0" or training._plateaus(expected.epochs[:-1].to_dict("records"), settings)
    for epoch in range(1, settings["epochs"]):
        interrupt_after(epoch)
        with pytest.raises(KeyboardInterrupt):
            train("interrupted")
        assert pd.read_csv(tmp_path / "interrupted" / "epochs.csv")["epoch"].tolist() == list(range(1, epoch + 1))
    interrupt_after(0)
    net, history = train("interrupted")
    pd.testing.assert_frame_equal(history.steps, expected.steps, check_exact=True)
    pd.testing.assert_frame_equal(history.epochs, expected.epochs, check_exact=True)
    assert history[2:] == expected[2:] and expected.steps["loss"].nunique() == len(expected.steps)
    assert all(torch.equal(t, whole.state_dict()[name]) for name, t in net.state_dict().items())


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


def brightness_net() -> nn.Module:
    """A network with everything that a training step changes: weights, running statistics, random numbers."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.Flatten(), nn.Dropout(0.3), nn.Linear(144, 2)
    )


def replayed(captures: list) -> callable:
    """What stands for `batches._capture` without a GPU: each replay computes anew from the tensors of the capture."""

    def capture(work, stream) -> tuple:
        captures.append(result := torch.empty(0))

        def replay() -> None:
            result.resize_((values := work()).shape).copy_(values)

        return replay, result

    return capture


@pytest.mark.parametrize("optimizer", training.OPTIMIZERS)
@pytest.mark.parametrize("augment", [None, {"flip": True, "jitter": 0.1}, {"flip": True, "noise": [0.5, 1, 4]}])
def test_captured_steps_give_the_numbers_of_plain_ones(
    tmp_path, on_cpu, monkeypatch, interrupt_after, optimizer, augment
):
    """The store lies on the device, each epoch's last batch is smaller, and the training is interrupted once.

    Where the rate has fallen, before the last epoch, numbers agree but for rounding: on a GPU it is float32.
    """
    settings = SETTINGS | dict(batch_size=12, optimizer=optimizer, learning_rate=2**-7, drops=1)
    monkeypatch.setattr(training, "_plateaus", lambda history, settings: len(history) // 2)
    plain, captures = brightness_net(), []
    expected = training.fit(plain, *planted(), settings, tmp_path / "plain", augment=augment)
    monkeypatch.setattr(batches, "has_graphs", lambda fabric: True)
    monkeypatch.setattr(batches, "_capture", replayed(captures))
    monkeypatch.setattr(batches, "_beside", lambda work, stream: work())
    monkeypatch.setattr(torch.cuda, "Stream", Mock())
    monkeypatch.setattr(batches, "on_device", lambda inputs, device: torch.tensor(inputs))
    monkeypatch.setattr(batches, "_read_ahead", None)  # not called: the batches are gathered on the device
    for epoch, error in ((2, pytest.raises(KeyboardInterrupt)), (0, nullcontext())):
        interrupt_after(epoch)
        net = brightness_net()
        with error:
            history = training.fit(net, *planted(), settings, tmp_path / "captured", augment=augment)
    assert [tuple(result.shape) for result in captures] == [(3,), (12, 2)] * 2  # one graph to train, one to validate
    for found, wanted in ((history.steps, expected.steps), (history.epochs, expected.epochs)):
        pd.testing.assert_frame_equal(found.query("epoch < 3"), wanted.query("epoch < 3"), check_exact=True)
        pd.testing.assert_frame_equal(found, wanted, rtol=1e-4)
    for name, tensor in net.state_dict().items():
        torch.testing.assert_close(tensor, plain.state_dict()[name])


@pytest.mark.parametrize("graphs", [False, True])
@pytest.mark.parametrize("name", training.OPTIMIZERS)
def test_the_learning_rate_alone_is_set_and_in_place_under_a_graph(monkeypatch, on_cpu, name, graphs):
    """A captured step sees what is done to a tensor on the device, and no other number of the optimizer."""
    monkeypatch.setattr(batches, "has_graphs", lambda fabric: graphs)
    monkeypatch.setattr(torch.cuda, "Stream", Mock())
    settings, net = training.hyperparameters(**SETTINGS, optimizer=name), dense_net()
    opt = training._optimizer(net, settings, on_cpu)
    training._train_step(net, net, opt, on_cpu, settings, SimpleNamespace(count=4))
    before = dict(opt.param_groups[0])
    training._set_rate(opt, 0.25)
    changed = {key for key, value in opt.param_groups[0].items() if value is not before[key]}
    assert opt.param_groups[0]["lr"] == 0.25 and changed == (set() if graphs else {"lr"})


def test_a_step_waits_for_nothing_and_takes_no_numbers_from_the_processor(monkeypatch):
    """As a captured one must; on the device "meta", which has no values to wait for."""
    settings, whole = training.hyperparameters(**SETTINGS), SimpleNamespace(count=4)
    with torch.device("meta"):
        net, images, number = models.CameraConvNet(2, 1 / 64), torch.zeros(4, 3, 48, 48), torch.zeros(4)
    fabric = Mock(world_size=1, device=images.device, backward=lambda loss: loss.backward())
    step = training._train_step(net, net, torch.optim.SGD(net.parameters(), 0.1), fabric, settings, whole)
    drawn = {"flip": number.bool(), "rotation": number, "jitter": torch.stack([number, number], 1)}
    tensors = dict(batch=images.byte(), target=number.long(), **drawn)
    step(**tensors)  # warm-up
    for name in ("tensor", "as_tensor", "from_numpy"):
        monkeypatch.setattr(torch, name, None)
    assert step(**tensors).shape == (3,)


def test_a_gpu_that_pytorch_is_not_built_for_is_not_taken_and_said_so(monkeypatch, capsys):
    monkeypatch.setattr(torch, "ones", tried := Mock())
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Tesla P100")
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert batches.best_device.__wrapped__() == "cuda" and tried.call_args.kwargs == {"device": "cuda:1"}
    tried.side_effect = RuntimeError("CUDA error: no kernel image is available for execution on the device\nmore words")
    assert batches.best_device.__wrapped__() == "cpu"
    assert capsys.readouterr().err == "the processor is used: this PyTorch is not built for Tesla P100\n"
    tried.side_effect = RuntimeError("CUDA out of memory")
    with pytest.raises(RuntimeError, match="memory"):
        batches.best_device.__wrapped__()


@pytest.mark.parametrize(
    "device, bfloat16, precisions",
    [("mps", True, "32-true 32-true"), ("cpu", False, "32-true 32-true"), ("cpu", True, "bf16-mixed 32-true")],
)
def test_precision_and_layout_are_what_the_device_does_well(monkeypatch, device, bfloat16, precisions):
    """Of CameraConvNet and of EfficientNet; Apple's GPU gets float32, NCHW, and no fused optimizer."""
    monkeypatch.setattr(batches, "best_device", lambda: device)
    monkeypatch.setattr(batches, "has_bfloat16", lambda: bfloat16)
    monkeypatch.setattr(lightning_fabric, "Fabric", fabric := Mock())
    nets = models.CameraConvNet(2, 1 / 64), nn.Sequential(nn.Conv2d(4, 4, 3, groups=4))
    for net in nets:
        batches.make_fabric(batches.training_precision(net))
    calls = [call.kwargs for call in fabric.call_args_list]
    assert " ".join(call["precision"] for call in calls) == precisions and {c["accelerator"] for c in calls} == {device}
    apple, place = device == "mps", torch.device(device)
    assert (batches.layout(place) == torch.contiguous_format) == apple
    for name in training.OPTIMIZERS:
        settings = training.hyperparameters(**SETTINGS, optimizer=name)
        assert training._optimizer(nets[0], settings, Mock(device=place)).defaults["fused"] != apple


@pytest.fixture
def job(tmp_path, monkeypatch):
    """Writes the job of a small training whose last batch has one row: (folder, network, data, options)."""
    torch.manual_seed(0)
    net, (pixels, *rows) = models.CameraConvNet(2, 1 / 64), planted(48, 51)
    np.save(tmp_path / "pixels.npy", pixels)
    data = np.load(tmp_path / "pixels.npy", mmap_mode="r"), *rows, SETTINGS | {"batch_size": 11}
    options = dict(augment={"flip": True, "rotation": 5.0}, seed=3, title="a job")
    (tmp_path / "run").mkdir()
    monkeypatch.setattr(batches, "training_precision", lambda net: "32-true")
    training.write_job(net, "", *data, tmp_path / "run", **options)
    return tmp_path / "run", net, data, options


@pytest.mark.parametrize(
    "change",
    [dict(network={"network": "Foo"}), dict(inputs="nosuch"), dict(precision="x"), dict(settings={"epochs": 1}), None],
)
def test_a_damaged_job_is_named_in_one_line(job, capsys, change):
    path = job[0] / "job.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change) if change else "{")
    assert training.main([str(path)]) == 2
    assert re.fullmatch(rf"error: {path} cannot be trained: \w+: [^\n]+\n", capsys.readouterr().err)


def test_a_damaged_checkpoint_is_named(job):
    (job[0] / "checkpoint.safetensors").write_bytes(b"x" * 100)
    with pytest.raises(ValueError, match="checkpoint.safetensors is damaged .*: delete it, and training starts again"):
        training.run_job(job[0] / "job.json")


@pytest.mark.parametrize("processes", [1, 2])
def test_a_notebook_reads_what_processes_trained(job, on_cpu, tmp_path, interrupt_after, processes):
    """As many steps, and figures equal but for rounding; the notebook's call finds the finished training."""
    folder, net, data, options = job
    expected = training.fit(deepcopy(net), *data, tmp_path / "here", **options)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes), "-m"]
    if processes > 1:
        command += ["camid_utils.training", folder / "job.json"]
        alone = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
        done = subprocess.run(command, capture_output=True, text=True, env=alone)
        assert done.returncode == 0, done.stderr
    else:
        training.run_job(folder / "job.json")
    interrupt_after(1)  # a run that trains again would meet this
    history = training.fit(net, *data, folder, **options)
    assert len(history.steps) == len(expected.steps) == 3 * 4 and history.steps["loss"].nunique() == 12
    how = dict(rtol=1e-4, atol=1e-5) if processes > 1 else dict(check_exact=True)
    pd.testing.assert_frame_equal(history.steps, expected.steps, **how)
    pd.testing.assert_frame_equal(history.epochs, expected.epochs, **how)


def test_a_training_begun_on_a_processor_goes_on_under_graphs(tmp_path, on_cpu, monkeypatch):
    """PyTorch captures Adam only where its settings say so; a checkpoint must not bring those of another device."""
    settings, net = training.hyperparameters(**SETTINGS, optimizer="adam"), dense_net(8)
    opt = training._optimizer(net, settings, on_cpu)
    net(torch.ones(2, 8)).sum().backward()
    opt.step()
    checkpoints.save(tmp_path, "key", net.state_dict(), [], [], net, opt)
    monkeypatch.setattr(batches, "has_graphs", lambda fabric: True)
    later = training._optimizer(net, settings, on_cpu)
    checkpoints.resume(tmp_path, "key", net, later, on_cpu.device)
    assert later.param_groups[0]["capturable"] and len(later.state) == len(opt.state)


def test_a_checkpoint_s_header_does_not_grow_with_the_steps(tmp_path):
    """A safetensors header holds less than 100 MB, that is fewer than a million steps."""
    steps = [{"step": i, "loss": 0.123456} for i in range(5000)]
    checkpoints.save(tmp_path, "key", dense_net(8).state_dict(), steps, [{"epoch": 1}])
    assert int.from_bytes((tmp_path / checkpoints.NAME).read_bytes()[:8], "little") < 2000
    found = checkpoints.resume(tmp_path, "key", dense_net(8), None, "cpu")
    assert found[0] == steps and found[1] == [{"epoch": 1}]


def test_a_network_is_on_the_cpu_again_after_its_use(tmp_path, store, monkeypatch):
    """All other code expects it there; on a machine without a GPU nothing else would show it."""
    moved, net, rows = [], colour_net(3), np.arange(4)

    def cpu(net: nn.Module) -> nn.Module:
        assert not torch.is_inference_mode_enabled()  # there its weights would become useless for training
        return moved.append(net) or net

    monkeypatch.setattr(nn.Module, "cpu", cpu)
    model = models.Model(net, ["Acme_A", "Acme_B", "Bolt_C"], 8, "0..1", {"target": "camera_model"})
    training.fit(trained := brightness_net(), *planted(), SETTINGS, tmp_path / "run")
    evaluation.predict(model, store, rows)
    open_set.photo_outputs(model, store, rows)
    predict.predict_photo(store.pixels[0].repeat(4, 0).repeat(4, 1), model)
    with pytest.raises(KeyboardInterrupt), batches.set_up(net, batches.make_fabric()):
        raise KeyboardInterrupt
    assert moved == [trained, net, net.features, net, net]


def test_batch_normalisation_in_several_processes_needs_gpus():
    fabric = Mock(world_size=2, device=torch.device("cpu"))
    with pytest.raises(ValueError, match="train in one process here"), batches.divided(brightness_net(), fabric):
        pass


def test_inputs_go_to_a_device_only_where_there_is_twice_the_room(monkeypatch):
    inputs, gpu = np.zeros((600, 4), np.float32), torch.device("cuda")
    assert batches.on_device(inputs, torch.device("cpu")) is inputs
    monkeypatch.setattr(torch, "tensor", lambda values, device: device)
    for free, found in ((2 * inputs.nbytes - 1, inputs), (2 * inputs.nbytes, gpu)):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device, free=free: (free, 10 * free))
        assert batches.on_device(inputs, gpu) is found
