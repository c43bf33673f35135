"""Planted shifts of the input are undone by each adaptation, and what must stay as it was does."""

import pytest
import torch
from torch import nn

from camid_utils import adaptation, models
from camid_utils.models import INPUT_RANGES, CameraConvNet, EfficientNetClassifier, to_input


def network(width=1 / 32):
    torch.manual_seed(0)
    return models.initialise(CameraConvNet(5, width), torch.randn(8, 3, 48, 48)).eval()


def patches(count=adaptation.BLOCK + 6, seed=0):
    """Inputs [n, 3, 48, 48]; more than one block of them."""
    return torch.randn(count, 3, 48, 48, generator=torch.Generator().manual_seed(seed)) + 0.5


def unchanged(net):
    """A check, to be called later, that `net` still has the weights it has now."""
    before = {name: t.clone() for name, t in net.state_dict().items()}
    return lambda: all(torch.equal(t, before[name]) for name, t in net.state_dict().items())


@torch.no_grad()
def test_statistics_are_those_of_each_layer_before_its_relu():
    net, inputs = network(), patches()
    table = adaptation.statistics(net, inputs)
    assert list(table.columns) == ["layer", "channel", "mean", "variance"]
    assert table["layer"].value_counts(sort=False).to_dict() == {"conv1": 4, "conv2": 16, "conv3": 64}
    for name, depth in (("conv1", 1), ("conv2", 4), ("conv3", 8)):
        signal = net.features[:depth](inputs).double()
        rows = table[table["layer"] == name].set_index("channel")
        for channel in (0, len(rows) - 1):
            values = signal[:, channel]
            expected = [values.mean().item(), values.var(correction=0).item()]
            assert rows.loc[channel, ["mean", "variance"]].tolist() == pytest.approx(expected, rel=1e-6, abs=1e-9)


@torch.no_grad()
def test_matched_undoes_an_affine_change_of_the_input():
    net, source = network(), patches()
    target, kept = source / 50 + 3, unchanged(net)
    adapted = adaptation.matched(net, source, target)
    wanted, got = adaptation.statistics(net, source), adaptation.statistics(adapted, target)
    shifted = adaptation.statistics(net, target)
    for column in ("mean", "variance"):
        torch.testing.assert_close(*(torch.tensor(t[column].to_numpy()) for t in (got, wanted)), rtol=1e-3, atol=1e-4)
        assert (shifted[column] - wanted[column]).abs().max() > 0.1  # there was something to undo
    features = net.features(source)
    torch.testing.assert_close(adapted.features(target), features, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(adapted(target), net(source), rtol=1e-3, atol=1e-3)
    assert (net.features(target) - features).abs().mean() > 0.1 * features.abs().mean()
    assert kept()


@torch.no_grad()
def test_matched_gives_other_content_the_statistics_of_the_source():
    net, source = network(), patches()
    target = patches(seed=1).cumsum(3) / 4  # not an affine change: only the moments can agree
    adapted = adaptation.matched(net, source, target)
    wanted, got = adaptation.statistics(net, source), adaptation.statistics(adapted, target)
    for column in ("mean", "variance"):
        torch.testing.assert_close(*(torch.tensor(t[column].to_numpy()) for t in (got, wanted)), rtol=1e-3, atol=1e-3)


@torch.no_grad()
def test_matched_changes_nothing_where_nothing_differs():
    net, source = network(), patches()
    torch.testing.assert_close(adaptation.matched(net, source, source)(source), net(source), rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_channels_that_are_constant_on_the_target_are_only_shifted():
    net, source = network(), patches()
    net.features[0].weight[1] = 0  # a dead filter, on either side
    adapted = adaptation.matched(net, source, torch.full_like(source, 2.0))  # flat patches: every filter constant
    assert torch.equal(adapted.features[0].weight, net.features[0].weight)
    assert all(t.isfinite().all() for t in adapted.state_dict().values())
    wanted, got = (t[t["layer"] == "conv1"]["mean"] for t in (
        adaptation.statistics(net, source), adaptation.statistics(adapted, torch.full_like(source, 2.0))))  # fmt: skip
    assert got.tolist() == pytest.approx(wanted.tolist(), abs=1e-4)


@pytest.mark.parametrize("trained", INPUT_RANGES)
@pytest.mark.parametrize("fed", INPUT_RANGES)
@torch.no_grad()
def test_rebased_does_the_same_with_the_same_pixels(trained, fed):
    pixels = torch.randint(0, 256, (8, 3, 48, 48), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    net = models.initialise(CameraConvNet(5, 1 / 32), to_input(pixels, trained)).eval()
    net.features[0].weight += 0.1 * net.features[0].weight.std()  # so that the mean of the input matters, too
    kept, logits = unchanged(net), net(to_input(pixels, trained))
    rebased = adaptation.rebased(net, trained, fed)
    torch.testing.assert_close(rebased(to_input(pixels, fed)), logits, rtol=1e-4, atol=1e-4)
    assert kept() and logits.std() > 0.01
    if trained != fed:
        assert (net(to_input(pixels, fed)) - logits).abs().max() > 1e-2


def test_rebased_names_the_ranges_it_knows():
    with pytest.raises(ValueError, match=r"unknown input range '0\.\.2': choose one of 0\.\.255, 0\.\.1"):
        adaptation.rebased(network(), "0..255", "0..2")


def normalised_net():
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
def test_renormalised_recovers_the_accuracy_lost_to_a_shift():
    net = normalised_net().eval()
    generator, kept = torch.Generator().manual_seed(0), unchanged(net)
    labels = torch.arange(200) % 2
    inputs = torch.randn(200, 3, 8, 8, generator=generator) + (2.0 * labels - 1)[:, None, None, None]
    shifted = inputs / 50 + 3

    def accuracy(network, x):
        return (network(x).argmax(1) == labels).float().mean().item()

    adapted = adaptation.renormalised(net, shifted.split(50))
    assert accuracy(net, inputs) == 1 and accuracy(net, shifted) == 0.5 and accuracy(adapted, shifted) == 1
    means, variances = zip(*((net[0](b).mean(), net[0](b).var()) for b in shifted.split(50)), strict=True)
    torch.testing.assert_close(adapted[1].running_mean[0], torch.stack(means).mean())
    torch.testing.assert_close(adapted[1].running_var[0], torch.stack(variances).mean())
    assert kept() and adapted[1].momentum == 0.1 and not any(m.training for m in adapted.modules())


@torch.no_grad()
def test_renormalised_efficientnet_sees_a_stretched_contrast_as_it_saw_the_original():
    net = EfficientNetClassifier(3, "efficientnet_lite0", weights="imagenet").eval()
    inputs = nn.functional.interpolate(patches(8)[:, :, :8, :8], size=64, mode="bicubic")
    wanted = adaptation.renormalised(net, inputs.split(4))
    adapted = adaptation.renormalised(net, (3 * inputs).split(4))  # the first convolution has no bias: a mere scale
    before = net.features(3 * inputs) - net.features(inputs)
    assert (adapted.features(3 * inputs) - wanted.features(inputs)).abs().mean() < 0.1 * before.abs().mean()
    weights = dict(net.named_parameters())
    assert all(torch.equal(tensor, weights[name]) for name, tensor in adapted.named_parameters())


def test_renormalised_says_what_is_missing():
    with pytest.raises(ValueError, match="CameraConvNet has no batch normalisation"):
        adaptation.renormalised(network(), [patches()])
    with pytest.raises(ValueError, match="no batch"):
        adaptation.renormalised(normalised_net(), [])
