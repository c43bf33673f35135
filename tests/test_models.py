"""Networks have the published shape; model files cannot be misread."""

import pytest
import safetensors.torch
import torch
import torchvision

from camid_utils import models
from camid_utils.models import CameraConvNet, EfficientNetClassifier, Model


def parameters(net) -> int:
    return sum(p.numel() for p in net.parameters())


def tiny(names=("B", "A"), **change) -> Model:
    return Model(CameraConvNet(2, width=1 / 64), list(names), 48, "0..255", {"seed": 3})._replace(**change)


def test_cameraconvnet_has_the_published_number_of_parameters():
    assert parameters(CameraConvNet(27)) == 45_233_179


def test_cameraconvnet_shapes():
    net = CameraConvNet(5, width=1 / 16)
    patches = torch.zeros(2, 3, 48, 48)
    assert net.features(patches).shape == (2, 128) and net(patches).shape == (2, 5)


@pytest.mark.parametrize("backbone", models.BACKBONES)
def test_efficientnet_head(backbone):
    net = EfficientNetClassifier(39, backbone, weights=None).eval()
    assert net(torch.zeros(1, 3, 64, 64)).shape == (1, 39)
    linear = [(m.in_features, m.out_features) for m in net.classifier if hasattr(m, "in_features")]
    assert linear == [(1280, 512), (512, 256), (256, 39)]
    assert all(p.requires_grad for p in net.parameters())


def test_relus_between_the_linear_layers_are_a_choice():
    kinds = [[type(m).__name__ for m in EfficientNetClassifier(3, "efficientnet_lite0", None, relu).classifier]
             for relu in (True, False)]  # fmt: skip
    assert kinds == [["Linear", "ReLU", "Linear", "ReLU", "Linear"], ["Linear"] * 3]


def test_lite0_weights_recognise_like_the_published_network():
    """The package's ImageNet weights, through this backbone and the package's own classifier, agree with timm's net."""
    import timm

    state = models._imagenet_state("efficientnet_lite0")
    reference = timm.create_model("tf_efficientnet_lite0", pretrained=False).eval()
    models._fill(reference, state, "efficientnet_lite0", "imagenet")
    net = EfficientNetClassifier(3, "efficientnet_lite0", "imagenet").eval()
    image = torch.rand(1, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        logits = net.features(image) @ state["_fc.weight"].T + state["_fc.bias"]
        assert torch.allclose(logits, reference(image), atol=1e-3)
        assert logits.std() > 0.5  # random weights give nearly equal logits


def test_v2_m_weights_from_a_local_file(tmp_path):
    net = torchvision.models.efficientnet_v2_m(weights=None)
    torch.save(net.state_dict(), tmp_path / "v2_m.pth")
    loaded = EfficientNetClassifier(3, "efficientnet_v2_m", tmp_path / "v2_m.pth")
    assert torch.equal(loaded.features[0][0][0].weight, net.features[0][0].weight)


def test_weights_of_another_architecture_are_refused(tmp_path):
    torch.save(models._imagenet_state("efficientnet_lite0"), tmp_path / "lite0.pth")
    with pytest.raises(ValueError, match="another architecture than efficientnet_v2_m"):
        EfficientNetClassifier(3, "efficientnet_v2_m", tmp_path / "lite0.pth")


def test_damaged_or_missing_weights_are_named(tmp_path):
    (tmp_path / "bad.pth").write_bytes(b"not weights")
    with pytest.raises(ValueError, match="bad.pth is not a readable weights file"):
        EfficientNetClassifier(3, "efficientnet_lite0", tmp_path / "bad.pth")
    with pytest.raises(FileNotFoundError, match="none.pth"):
        EfficientNetClassifier(3, "efficientnet_lite0", tmp_path / "none.pth")
    with pytest.raises(ValueError, match="efficientnet_v2_m, efficientnet_lite0"):
        EfficientNetClassifier(3, "resnet", None)


def test_no_network_for_v2_m_says_what_to_do(monkeypatch):
    monkeypatch.setattr(torchvision.models.EfficientNet_V2_M_Weights, "get_state_dict", _refuse)
    with pytest.raises(ConnectionError, match="give its path as the weights"):
        EfficientNetClassifier(3, "efficientnet_v2_m")


def _refuse(self, *args, **kwargs):
    from urllib.error import URLError

    raise URLError("no network")


def test_a_model_file_keeps_everything(tmp_path):
    model = tiny()
    loaded = models.load_model(models.save_model(model, tmp_path / "m.safetensors"))
    assert loaded[1:] == model[1:]
    patches = torch.rand(2, 3, 48, 48)
    assert torch.equal(loaded.net(patches), model.net.eval()(patches))
    assert [path.name for path in tmp_path.iterdir()] == ["m.safetensors"]


def test_class_names_must_fit_the_outputs(tmp_path):
    with pytest.raises(ValueError, match="2 outputs but 3 class names"):
        models.save_model(tiny(names="ABC"), tmp_path / "m.safetensors")
    with pytest.raises(ValueError, match="input range"):
        models.save_model(tiny(input_range="0..7"), tmp_path / "m.safetensors")


@pytest.mark.parametrize("keep", [0, 7, 100, 2000])
def test_a_truncated_model_file_is_refused(tmp_path, keep):
    path = models.save_model(tiny(), tmp_path / "m.safetensors")
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ValueError, match="m.safetensors is not a model file"):
        models.load_model(path)


def test_a_foreign_safetensors_file_is_refused(tmp_path):
    safetensors.torch.save_file({"x": torch.zeros(2)}, tmp_path / "x.safetensors")
    with pytest.raises(ValueError, match="not a model file of this study"):
        models.load_model(tmp_path / "x.safetensors")


def test_input_ranges():
    white = torch.full((1, 3, 2, 2), 255, dtype=torch.uint8).contiguous(memory_format=torch.channels_last)
    values = {name: float(models.to_input(white, name)[0, 0, 0, 0]) for name in models.INPUT_RANGES}
    assert values == pytest.approx({"0..255": 255, "0..1": 1, "-1..1": 1, "imagenet": (1 - 0.485) / 0.229})
    assert models.to_input(white, "imagenet").is_contiguous(memory_format=torch.channels_last)


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
